//! What Redis does in one step, and how numbers and times are written.
//!
//! Lua's numbers are doubles, which tell not all 64-bit numbers apart: generations and fences are
//! texts there, equal if they are the same, and the shorter of two is the lower.
//!
//! Each script publishes before it writes, for a user who may not publish must learn that before
//! anything is done. Nobody can look in between.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::Script;

/// Writes a record if the one that is there has the expected generation, and the lease isn't over.
pub(super) static SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local expected, generation, data, fence, keep_until, expiry, channel = unpack(ARGV)
local kept = redis.call('HMGET', KEYS[1], 'generation', 'fence')
if (redis.call('HEXISTS', KEYS[1], 'data') == 1) ~= (kept[1] ~= false) then return 'broken' end
local last = kept[2] or ''
if fence ~= '' and (#fence < #last or #fence == #last and fence < last) then return 'fenced' end
if (kept[1] or '') ~= expected then return 'changed' end
redis.call('PUBLISH', channel, '')
redis.call('HSET', KEYS[1], 'generation', generation, 'data', data, 'keep_until', keep_until)
if expiry == '' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIREAT', KEYS[1], expiry)
end
return 'done'
",
    )
});

/// Grants a lease and its fence, or says how long somebody else's lasts.
///
/// A fence is the time in microseconds, or one more than the last, whichever is higher. So it doesn't
/// go back when the last one is gone, with a record that was deleted or not needed any more, or with a
/// failover: who has an old lease has a lower fence than whoever has one after that. Where no record
/// is, the last fence is kept for a while only, for keys that never get one.
pub(super) static LEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner, time, fence_is_kept = unpack(ARGV)
if redis.call('GET', KEYS[2]) then return {false, redis.call('PTTL', KEYS[2])} end
local now = redis.call('TIME')
local fence = string.format('%d%06d', now[1], now[2])
local last = redis.call('HGET', KEYS[1], 'fence') or ''
if #last < #fence or #last == #fence and last < fence then
  redis.call('HSET', KEYS[1], 'fence', fence)
else
  redis.call('HINCRBY', KEYS[1], 'fence', 1)
  fence = redis.call('HGET', KEYS[1], 'fence')
end
if redis.call('HEXISTS', KEYS[1], 'data') == 0 then
  redis.call('PEXPIRE', KEYS[1], fence_is_kept)
end
redis.call('SET', KEYS[2], owner, 'PX', time)
return {fence, 0}
",
    )
});

/// Lets a lease last from now, if it is its owner's.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner, time = unpack(ARGV)
if redis.call('GET', KEYS[1]) ~= owner then return 0 end
return redis.call('PEXPIRE', KEYS[1], time)
",
    )
});

/// Ends a lease, if it is its owner's.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local owner, channel = unpack(ARGV)
if redis.call('GET', KEYS[1]) == owner then
  redis.call('PUBLISH', channel, '')
  redis.call('DEL', KEYS[1])
end
return redis.status_reply('OK')
",
    )
});

/// What is read of a hash.
pub(super) const FIELDS: [&str; 3] = ["generation", "data", "keep_until"];

/// A record as it is kept, not opened yet.
pub(super) struct Kept {
    pub(super) generation: u64,
    pub(super) data: Vec<u8>,
    pub(super) keep_until: Option<SystemTime>,
}

/// The values of [`FIELDS`].
pub(super) type Values = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

impl Kept {
    /// `None` where there is no record, as where there is only a fence.
    pub(super) fn read(values: Values) -> Result<Option<Self>, &'static str> {
        match values {
            (None, None, None) => Ok(None),
            (Some(generation), Some(data), Some(keep_until)) => Ok(Some(Self {
                generation: parsed(&generation).ok_or(NO_RECORD)?,
                data,
                keep_until: match keep_until.as_slice() {
                    b"" => None,
                    nanos => Some(parsed(nanos).and_then(time).ok_or(NO_RECORD)?),
                },
            })),
            _ => Err(NO_RECORD),
        }
    }
}

pub(super) const NO_RECORD: &str =
    "what is there isn't a record of this library: delete it, or choose another prefix";

/// How long a fence is kept where there is no record, after the lease's time; in milliseconds.
pub(super) const FENCE_IS_KEPT: u64 = 24 * 60 * 60 * 1000;

/// More than this Redis doesn't take for a time, nor Lua for a number.
const MOST: u64 = 1 << 53;

/// For Redis a lease lasts whole milliseconds, and one at least.
pub(super) fn millis(time: Duration) -> u64 {
    let millis = time.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(MOST).clamp(1, MOST)
}

/// Nanoseconds since 1970, as this system's clock counts.
pub(super) fn nanos(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos()
}

fn time(nanos: u128) -> Option<SystemTime> {
    let second = 1_000_000_000;
    let seconds = u64::try_from(nanos.checked_div(second)?).ok()?;
    let rest = u32::try_from(nanos.checked_rem(second)?).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, rest))
}

/// When Redis may forget what need not be kept after `time`, in milliseconds since 1970; `None` is
/// never, and so is what Redis can't tell.
pub(super) fn expiry(time: SystemTime) -> Option<u64> {
    let millis = u64::try_from(nanos(time).div_ceil(1_000_000)).ok()?;
    Some(millis).filter(|millis| *millis <= MOST)
}

/// A number as it was written here.
pub(super) fn parsed<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_as_it_was_and_redis_forgets_not_before_it() {
        let at = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        assert_eq!(time(nanos(at)), Some(at));
        assert_eq!(expiry(at), Some(1_700_000_000_124));
        assert_eq!(expiry(UNIX_EPOCH - Duration::from_secs(1)), Some(0));
        let far = UNIX_EPOCH + Duration::from_secs(1 << 52);
        assert_eq!((time(nanos(far)), expiry(far)), (Some(far), None));
    }

    #[test]
    fn a_lease_lasts_a_time_that_redis_takes() {
        for (time, expected) in [
            (Duration::ZERO, 1),
            (Duration::from_micros(1001), 2),
            (Duration::from_secs(30), 30_000),
            (Duration::MAX, MOST),
        ] {
            assert_eq!(millis(time), expected);
        }
    }

    #[test]
    fn half_a_record_is_an_error_and_only_nothing_is_none() {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        assert!(Kept::read((None, None, None)).unwrap().is_none());
        assert!(
            Kept::read((text("1"), text("d"), text("")))
                .unwrap()
                .is_some()
        );
        for broken in [
            (text("1"), None, None),
            (None, text("d"), None),
            (text("1"), text("d"), None),
            (text("one"), text("d"), text("")),
            (text("-1"), text("d"), text("")),
            (text("1"), text("d"), text("soon")),
        ] {
            assert!(Kept::read(broken).is_err());
        }
    }
}
