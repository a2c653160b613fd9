//! Challenges as lists, as tests like to compare them.

use super::challenge::{Complaint, Piece, Pieces};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) scheme: Vec<u8>,
    pub(super) params: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) token68: Option<Vec<u8>>,
}

/// The challenges that can be made out, and whether the text kept to the grammar.
pub(super) fn tolerant(lines: &[Vec<u8>]) -> (Vec<Challenge>, bool) {
    let mut pieces = Pieces::of(lines.iter().map(Vec::as_slice));
    let mut challenges: Vec<Challenge> = Vec::new();
    for piece in &mut pieces {
        match (piece, challenges.last_mut()) {
            (Piece::Scheme(scheme), _) => challenges.push(Challenge {
                scheme: scheme.to_vec(),
                params: Vec::new(),
                token68: None,
            }),
            (Piece::Token68(token68), Some(challenge)) => {
                challenge.token68 = Some(token68.to_vec());
            }
            (Piece::Param(name, value), Some(challenge)) => {
                challenge
                    .params
                    .push((name.to_vec(), value.bytes().collect()));
            }
            (Piece::Token68(_) | Piece::Param(..), None) => {}
        }
    }
    (challenges, !pieces.is_broken())
}

/// The challenges, if the text keeps to the grammar.
pub(super) fn strict(lines: &[Vec<u8>]) -> Option<Vec<Challenge>> {
    let (challenges, well_formed) = tolerant(lines);
    (well_formed && !challenges.is_empty()).then_some(challenges)
}

pub(super) fn complaint(lines: &[Vec<u8>]) -> Complaint {
    Complaint::read(lines.iter().map(Vec::as_slice))
}
