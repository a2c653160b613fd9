//! A second source for when the first has no token.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{BudgetSpent, Demand, Identity, TokenError, TokenSource, budget::purse};
use crate::token::AccessToken;

/// Tokens from one source, or from another where the first has none; made by
/// [`TokenSource::or_else`].
#[derive(Debug)]
pub struct OrElse<A, B> {
    first: A,
    other: B,
    memory: Mutex<Memory>,
}

/// What is known of the tokens of both, the latest first.
#[derive(Debug, Default)]
struct Memory {
    /// Those that were handed out, and whether they came from the other.
    handed_out: VecDeque<(AccessToken, bool)>,
    refused: VecDeque<AccessToken>,
}

/// A cache holds one token, and may have the next under way.
const REMEMBERED: usize = 8;

impl Memory {
    fn hand_out(&mut self, token: &AccessToken, from_other: bool) {
        self.handed_out.push_front((token.clone(), from_other));
        self.handed_out.truncate(REMEMBERED);
    }

    fn refuse(&mut self, refused: &AccessToken) {
        self.refused.retain(|before| before != refused);
        self.refused.push_front(refused.clone());
        self.refused.truncate(REMEMBERED);
    }

    fn came_from_other(&self, held: &AccessToken) -> Option<bool> {
        let origin = self.handed_out.iter().find(|(token, _)| token == held);
        origin.map(|(_, from_other)| *from_other)
    }
}

impl<A, B> OrElse<A, B> {
    pub(super) fn new(first: A, other: B) -> Self {
        Self {
            first,
            other,
            memory: Mutex::default(),
        }
    }

    fn hand_out(&self, token: AccessToken, from_other: bool) -> AccessToken {
        self.memory().hand_out(&token, from_other);
        token
    }

    /// A token that was refused is as good as none, also once another one has served since.
    async fn ask(
        &self,
        source: &impl TokenSource,
        demand: Demand<'_>,
    ) -> Result<AccessToken, Miss> {
        purse::pay_for_a_call_of(source).await?;
        let token = source.token(demand).await?;
        let is_refused = self.memory().refused.contains(&token);
        if !is_refused && demand.rejected() != Some(&token) {
            return Ok(token);
        }
        Err(Miss {
            error: TokenError::transient("it still has a token that was refused"),
            refused: Some(token),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing that runs under the lock leaves it half done.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why one of the two has no token, and the refused one that it does have.
struct Miss {
    error: TokenError,
    refused: Option<AccessToken>,
}

impl From<TokenError> for Miss {
    fn from(error: TokenError) -> Self {
        Self {
            error,
            refused: None,
        }
    }
}

impl<A: TokenSource, B: TokenSource> TokenSource for OrElse<A, B> {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let demand = demand.lending_nothing();
        if let Some(refused) = demand.refused() {
            self.memory().refuse(refused);
        }
        let first = match self.ask(&self.first, demand).await {
            Ok(token) => return Ok(self.hand_out(token, false)),
            Err(miss) => miss,
        };
        let other = match self.ask(&self.other, demand).await {
            Ok(token) => return Ok(self.hand_out(token, true)),
            Err(miss) => miss,
        };
        // Other servers may accept it, and this one may by now: better than none at all.
        if demand.rejected().is_none() && demand.held().is_none() {
            let refused = [(first.refused, false), (other.refused, true)];
            for (refused, from_other) in refused {
                if let Some(token) = refused {
                    return Ok(self.hand_out(token, from_other));
                }
            }
        }
        Err(neither(first.error, other.error))
    }

    /// The token goes back to where it came from, and nowhere else.
    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        let from_other = held.and_then(|held| self.memory().came_from_other(held));
        let (firsts, others) = match from_other {
            Some(false) => (held, None),
            Some(true) => (None, held),
            None => (None, None),
        };
        let first = self.first.revoke(firsts).await;
        let other = self.other.revoke(others).await;
        first.and(other)
    }

    fn identify(&self, identity: &mut Identity) {
        let mut first = Identity::new();
        self.first.identify(&mut first);
        let mut other = Identity::new();
        self.other.identify(&mut other);
        identity.are_either(&first, &other);
        // `ask` pays for the one that doesn't.
        identity.is_metered();
    }
}

/// Trying again helps if it helps one of them.
fn neither(first: TokenError, other: TokenError) -> TokenError {
    if let Some(spent) = sooner_spent(&first, &other) {
        return spent.clone();
    }
    let transient = first.is_transient() || other.is_transient();
    let retry_after = retry_after(&first, &other);
    let code = first.oauth_code().or(other.oauth_code()).map(str::to_owned);
    let neither = Box::new(Neither { first, other });
    TokenError::judged(transient, code.as_deref(), retry_after, neither)
}

/// Where both have spent a budget, that is all there is to say: until the first of them may ask again.
fn sooner_spent<'a>(first: &'a TokenError, other: &'a TokenError) -> Option<&'a TokenError> {
    let next_at = |error: &TokenError| {
        let spent = error.get_ref().downcast_ref::<BudgetSpent>();
        spent.map(BudgetSpent::next_at)
    };
    let is_sooner = next_at(other)? < next_at(first)?;
    Some(if is_sooner { other } else { first })
}

/// How long until one of them may help: where waiting helps only one, as long as that says; where one
/// doesn't say, nobody does.
fn retry_after(first: &TokenError, other: &TokenError) -> Option<Duration> {
    match (first.is_transient(), other.is_transient()) {
        (true, false) => first.retry_after(),
        (false, true) => other.retry_after(),
        _ => Some(first.retry_after()?.min(other.retry_after()?)),
    }
}

/// Neither of two sources had a token.
#[derive(Debug)]
pub(super) struct Neither {
    first: TokenError,
    other: TokenError,
}

impl Neither {
    /// A budget is the reason of at least one.
    pub(super) fn is_budget_spent(&self) -> bool {
        self.first.is_budget_spent() || self.other.is_budget_spent()
    }
}

impl fmt::Display for Neither {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "neither source has a token: the first: {}; the other: {}",
            self.first, self.other
        )
    }
}

impl Error for Neither {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.first)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;

    fn token(text: &str) -> AccessToken {
        AccessToken::bearer(text).unwrap()
    }

    /// Says the same each time, and notes what it was given back.
    #[derive(Clone)]
    struct Scripted {
        says: Result<AccessToken, TokenError>,
        got_back: Arc<Mutex<Vec<Option<AccessToken>>>>,
    }

    impl TokenSource for Scripted {
        async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
            self.says.clone()
        }

        async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
            self.got_back.lock().unwrap().push(held.cloned());
            Ok(())
        }
    }

    fn source(says: Result<AccessToken, TokenError>) -> Scripted {
        Scripted {
            says,
            got_back: Arc::default(),
        }
    }

    #[tokio::test]
    async fn the_other_is_asked_where_the_first_fails_or_repeats_a_refused_token() {
        let down = || Err(TokenError::permanent("down"));
        for (first, rejected, expected) in [
            (Ok(token("a")), None, "a"),
            (Ok(token("a")), Some("b"), "a"),
            (Ok(token("a")), Some("a"), "b"),
            (down(), None, "b"),
        ] {
            let sources = source(first).or_else(source(Ok(token("b"))));
            let rejected = rejected.map(token);
            let demand = Demand::instead_of(rejected.as_ref());
            let got = sources.token(demand).await.unwrap();
            assert_eq!(got.expose_secret(), expected);
        }
    }

    #[tokio::test]
    async fn two_failures_are_one_that_names_both() {
        let first = TokenError::permanent("no file").with_oauth_code("invalid_client");
        let other = TokenError::transient("busy").with_retry_after(Duration::from_secs(7));
        let sources = source(Err(first)).or_else(source(Err(other)));
        let error = sources.token(Demand::default()).await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(error.oauth_code(), Some("invalid_client"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        let message = error.to_string();
        assert!(
            message.contains("no file") && message.contains("busy"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_refused_token_is_passed_over_while_there_is_another_and_any_is_better_than_none() {
        let (a, b, c) = (token("a"), token("b"), token("c"));
        let other = Arc::new(Mutex::new(Ok(b.clone())));
        let sources = source(Ok(a.clone())).or_else({
            let other = Arc::clone(&other);
            move || {
                let says = other.lock().unwrap().clone();
                async move { says }
            }
        });
        let ask = async |demand| sources.token(demand).await.ok();
        let none = Demand::default();
        assert_eq!(ask(none).await, Some(a.clone()));
        // A caller wants a newer one, and nobody refused anything.
        let fresh = Demand::instead_of(Some(&a)).while_held(Some(&a));
        assert_eq!(ask(fresh).await, Some(b.clone()));
        assert_eq!(ask(none).await, Some(a.clone()));
        let refused = Demand::instead_of(Some(&a));
        assert_eq!(ask(refused).await, Some(b.clone()));
        assert_eq!(ask(none).await, Some(b.clone()));
        *other.lock().unwrap() = Ok(c.clone());
        assert_eq!(ask(Demand::instead_of(Some(&b))).await, Some(c.clone()));
        *other.lock().unwrap() = Err(TokenError::transient("down"));
        assert_eq!(ask(none.while_held(Some(&c))).await, None);
        assert_eq!(ask(Demand::instead_of(Some(&c))).await, None);
        assert_eq!(ask(none).await, Some(a));
    }

    #[tokio::test]
    async fn the_sooner_of_two_times_to_wait_counts_and_none_where_waiting_may_not_be_needed() {
        let wait = |secs| TokenError::transient("busy").with_retry_after(Duration::from_secs(secs));
        let (down, wrong) = (
            TokenError::transient("down"),
            TokenError::permanent("wrong"),
        );
        for (first, other, expected) in [
            (wait(7), wait(600), Some(7)),
            (wait(600), wait(7), Some(7)),
            (wait(600), down.clone(), None),
            (down.clone(), wait(600), None),
            (wait(600), wrong.clone(), Some(600)),
            (wrong.clone(), wait(600), Some(600)),
            (wrong.clone(), wrong, None),
        ] {
            let sources = source(Err(first)).or_else(source(Err(other)));
            let error = sources.token(Demand::default()).await.unwrap_err();
            assert_eq!(
                error.retry_after(),
                expected.map(Duration::from_secs),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_spent_budget_is_found_behind_two_failures() {
        let budget = |requests| source(Ok(token("a"))).budget(requests, Duration::from_secs(60));
        let down = || source(Err(TokenError::transient("down")));
        for (is_spent, outcome) in [
            (
                true,
                budget(0).or_else(down()).token(Demand::default()).await,
            ),
            (
                true,
                down().or_else(budget(0)).token(Demand::default()).await,
            ),
            (false, down().or_else(down()).token(Demand::default()).await),
        ] {
            assert_eq!(outcome.unwrap_err().is_budget_spent(), is_spent);
        }
    }

    // rule 23
    #[tokio::test]
    async fn a_token_goes_back_to_where_it_came_from() {
        for (first, held, expected) in [
            (Ok(token("a")), "a", (Some(token("a")), None)),
            (
                Err(TokenError::transient("x")),
                "b",
                (None, Some(token("b"))),
            ),
        ] {
            let (first, other) = (source(first), source(Ok(token("b"))));
            let sources = first.clone().or_else(other.clone());
            sources.token(Demand::default()).await.unwrap();
            sources.revoke(Some(&token(held))).await.unwrap();
            assert_eq!(*first.got_back.lock().unwrap(), [expected.0]);
            assert_eq!(*other.got_back.lock().unwrap(), [expected.1]);
        }
    }

    // rule 23
    #[tokio::test]
    async fn an_older_token_goes_back_to_where_it_came_from_too() {
        let asked = Arc::new(Mutex::new(0));
        let first = {
            let asked = Arc::clone(&asked);
            move || {
                let asked = Arc::clone(&asked);
                async move {
                    let mut asked = asked.lock().unwrap();
                    *asked += 1;
                    match *asked {
                        1 => Err(TokenError::transient("down")),
                        _ => Ok(token("a")),
                    }
                }
            }
        };
        let other = source(Ok(token("b")));
        let sources = first.or_else(other.clone());
        for expected in ["b", "a"] {
            let got = sources.token(Demand::default()).await.unwrap();
            assert_eq!(got.expose_secret(), expected);
        }
        sources.revoke(Some(&token("b"))).await.unwrap();
        sources.revoke(Some(&token("stranger"))).await.unwrap();
        assert_eq!(*other.got_back.lock().unwrap(), [Some(token("b")), None]);
    }
}
