//! Texts in pairs, one after the other in one piece of memory.

/// Pairs of texts, each behind its lengths.
#[derive(Debug, Default)]
pub(super) struct Text {
    memory: Vec<u8>,
    used: usize,
}

impl Text {
    /// Has `write` write pairs in place of what is there; anew, with more room, if that was too little.
    #[inline]
    pub(super) fn fill(&mut self, mut write: impl FnMut(Room<'_>) -> Option<Room<'_>>) {
        loop {
            if let Some(Room(left)) = write(Room(&mut self.memory)) {
                let left = left.len();
                self.used = self.memory.len().saturating_sub(left);
                return;
            }
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let more = self.memory.len().saturating_mul(2).max(FIRST_ROOM);
        self.memory.resize(more, 0);
    }

    pub(super) fn pairs(&self) -> Pairs<'_> {
        Pairs(self.memory.get(..self.used).unwrap_or_default())
    }

    /// Forgets the texts, and keeps the memory for the next ones, unless it is much.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.used = 0;
        if self.memory.len() > MOST_KEPT {
            self.memory = Vec::new();
        }
    }
}

/// What is left to be written to. It goes from hand to hand, and so stays in a register.
pub(super) struct Room<'a>(&'a mut [u8]);

impl Room<'_> {
    /// Writes a pair of texts, each shorter than 4 GiB; `None` if there is too little room.
    #[inline(always)]
    pub(super) fn write(self, first: &[u8], second: &[u8]) -> Option<Self> {
        self.write_behind([first.len() as u32, second.len() as u32], first, second)
    }

    /// A pair whose second text is elsewhere.
    pub(super) fn write_half(self, first: &[u8]) -> Option<Self> {
        self.write_behind([first.len() as u32, ELSEWHERE], first, b"")
    }

    #[inline(always)]
    fn write_behind(self, lengths: [u32; 2], first: &[u8], second: &[u8]) -> Option<Self> {
        let (before, left) = self.0.split_first_chunk_mut()?;
        let (to_first, left) = left.split_at_mut_checked(first.len())?;
        let (to_second, left) = left.split_at_mut_checked(second.len())?;
        let [a, b] = lengths;
        *before = ((u64::from(a) << 32) | u64::from(b)).to_ne_bytes();
        copy(first, to_first);
        copy(second, to_second);
        Some(Self(left))
    }
}

/// The pairs in their order; the second is `None` where it is elsewhere.
pub(super) struct Pairs<'a>(&'a [u8]);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (lengths, rest) = self.0.split_first_chunk()?;
        let lengths = u64::from_ne_bytes(*lengths);
        let [first, second] = [(lengths >> 32) as u32, lengths as u32];
        let (first, rest) = rest.split_at_checked(usize::try_from(first).ok()?)?;
        if second == ELSEWHERE {
            self.0 = rest;
            return Some((first, None));
        }
        let (second, rest) = rest.split_at_checked(usize::try_from(second).ok()?)?;
        self.0 = rest;
        Some((first, Some(second)))
    }
}

/// Copies a text that is most often short: by two moves that may overlap, which cost half of what a
/// call of `memcpy` does.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    let copied = match from.len() {
        33..=64 => copy_ends::<32>(from, to),
        16..=32 => copy_ends::<16>(from, to),
        8..16 => copy_ends::<8>(from, to),
        4..8 => copy_ends::<4>(from, to),
        _ => None,
    };
    if copied.is_none() {
        to.copy_from_slice(from);
    }
}

#[inline(always)]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) -> Option<()> {
    *to.first_chunk_mut::<N>()? = *from.first_chunk()?;
    *to.last_chunk_mut::<N>()? = *from.last_chunk()?;
    Some(())
}

/// In place of a length.
const ELSEWHERE: u32 = u32::MAX;
const FIRST_ROOM: usize = 512;
const MOST_KEPT: usize = 4096;

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_come_back() {
        let long: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut text = Text::default();
        for length in (0..200).chain([1024, 5000]) {
            let (first, second) = (&long[..length], &long[length / 2..length]);
            text.fill(|room| {
                room.write(first, second)?
                    .write_half(first)?
                    .write(second, b"z")
            });
            let pairs: Vec<_> = text.pairs().collect();
            let written = [
                (first, Some(second)),
                (first, None),
                (second, Some(&b"z"[..])),
            ];
            assert_eq!(pairs, written, "{length}");
            text.clear();
            assert_eq!(text.pairs().count(), 0);
        }
    }

    #[test]
    fn much_memory_is_not_kept() {
        let mut text = Text::default();
        text.fill(|room| room.write(&[0; MOST_KEPT], b""));
        assert!(text.memory.len() > MOST_KEPT);
        text.clear();
        assert_eq!(text.memory.capacity(), 0);
        text.fill(|room| room.write(b"a", b"b"));
        text.clear();
        assert!(text.memory.capacity() > 0);
    }
}
