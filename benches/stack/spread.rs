//! Where the middle of some figures is, and how sure that is.

#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub median: f64,
    /// Between these lies, at 19 to 1, the median of all the rounds that could have been.
    pub sure: (f64, f64),
    /// Half of the figures lie between these.
    pub quartiles: (f64, f64),
}

impl Spread {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |rank: f64| {
            let rank = rank.clamp(0.0, last as f64);
            let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
            below + (above - below) * rank.fract()
        };
        let middle = last as f64 / 2.0;
        // As many figures lie below the true median as heads come up in as many tosses: whatever
        // their distribution is, its standard deviation is half the root of their number.
        let reach = 1.96 * (sorted.len() as f64).sqrt() / 2.0;
        Some(Self {
            median: at(middle),
            sure: (at(middle - reach), at(middle + reach)),
            quartiles: (at(middle / 2.0), at(middle * 1.5)),
        })
    }
}
