//! Who judges: the standard, or a classifier of the user's.

use std::{fmt, sync::Arc};

use super::{ResponseHead, Verdict, standard};

/// Who says whether an answer refuses the token.
#[derive(Clone)]
pub(crate) enum Judge {
    Standard,
    Custom(Arc<dyn Fn(ResponseHead<'_>) -> Verdict + Send + Sync>),
}

impl Judge {
    #[inline]
    pub(crate) fn verdict<R>(&self, answer: &http::Response<R>) -> Verdict {
        let head = ResponseHead::of(answer);
        match self {
            Self::Standard => standard(head),
            Self::Custom(judge) => judge(head),
        }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "Standard",
            Self::Custom(_) => "Custom",
        })
    }
}
