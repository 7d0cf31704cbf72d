//! Amounts over time, in a bounded number of bins that widen as more time is covered. Pure.
//!
//! Bins are kept only where something was recorded, so that one record with a wrong clock does not make all others coarse.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Bins with something in them: 14 hours without a pause at 5 s, the usual length of a window. Some 100 bytes each.
const MAX_BINS: usize = 10_000;
/// Lengths of a bin in seconds, each a multiple of the one before; then days, doubling.
const LADDER: [i64; 10] = [1, 5, 10, 30, 60, 300, 900, 3_600, 21_600, DAY];
/// Lengths of what is drawn, of which one is taken that people can read on a clock.
const DRAWN: [i64; 17] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200];
/// Intervals in a plot: more would be narrower than two pixels on a phone.
pub(super) const MAX_INTERVALS: i64 = 160;
/// Days without a record between two times of which one is believed to be a wrong clock.
const ODD_PAUSE: i64 = 180 * DAY;
const DAY: i64 = 86_400;

/// What is added up over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Series {
    Virtual,
    Subnet,
    Exit,
    Physical,
    /// Bytes of sockets on a cellular network.
    Cellular,
    /// Bytes of sockets on other networks.
    OtherNetwork,
}

impl Series {
    /// The classes of flow records; the last is what carries the others.
    pub(super) const CLASSES: [Self; 4] = [Self::Virtual, Self::Subnet, Self::Exit, Self::Physical];

    /// The class of a row.
    pub(super) fn class(name: &str) -> Option<Self> {
        Self::CLASSES.into_iter().find(|class| class.name() == name)
    }

    /// For people, and as a class of the style sheet.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Virtual => "virtual",
            Self::Subnet => "subnet",
            Self::Exit => "exit",
            Self::Physical => "physical",
            Self::Cellular => "cellular",
            Self::OtherNetwork => "other",
        }
    }
}

/// What one bin or interval holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bin {
    bytes: [u64; 6],
    /// Records that began in it, and those that ended.
    pub(super) marks: u64,
}

impl Bin {
    pub(super) fn of(&self, series: Series) -> u64 {
        self.bytes.get(series as usize).copied().unwrap_or_default()
    }

    /// What several series have together.
    pub(super) fn sum(&self, series: &[Series]) -> u64 {
        series.iter().fold(0, |sum, &series| sum.saturating_add(self.of(series)))
    }

    fn add(&mut self, other: &Self) {
        for (sum, bytes) in self.bytes.iter_mut().zip(other.bytes) {
            *sum = sum.saturating_add(bytes);
        }
        self.marks = self.marks.saturating_add(other.marks);
    }
}

/// Amounts per bin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timeline {
    seconds: i64,
    /// By number of the bin since 1970.
    bins: BTreeMap<i64, Bin>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { seconds: LADDER[0], bins: BTreeMap::new() }
    }
}

/// What is drawn of a timeline: intervals from first to last, those in which nothing was recorded included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Seconds since 1970 at which the first interval begins.
    pub(super) start: i64,
    /// The length of each.
    pub(super) seconds: i64,
    pub(super) intervals: Vec<Bin>,
    /// What is not drawn, since its times are half a year or more away from the rest.
    pub(super) outside: Bin,
}

impl Timeline {
    /// Adds bytes that were carried at a time.
    pub(super) fn add(&mut self, time: Timestamp, series: Series, bytes: u64) {
        if let Some(sum) = self.bin(time).bytes.get_mut(series as usize) {
            *sum = sum.saturating_add(bytes);
        }
    }

    /// Notes that there is a record of that time.
    pub(super) fn mark(&mut self, time: Timestamp) {
        let bin = self.bin(time);
        bin.marks = bin.marks.saturating_add(1);
    }

    /// What to draw, in intervals of `finest` seconds or more; `None` if nothing was added.
    pub(super) fn view(&self, finest: i64) -> Option<View> {
        let (first, last) = self.densest()?;
        let (from, to) = (first.saturating_mul(self.seconds), last.saturating_mul(self.seconds));
        let seconds = self.drawn(to.saturating_sub(from).saturating_add(self.seconds), finest);
        let index = |time: i64| time.div_euclid(seconds);
        let start = index(from);
        let mut intervals = vec![Bin::default(); usize::try_from(index(to) - start + 1).unwrap_or(1)];
        let mut outside = Bin::default();
        for (number, bin) in &self.bins {
            let inside = (first..=last).contains(number);
            let place = usize::try_from(index(number.saturating_mul(self.seconds)).saturating_sub(start));
            match place.ok().filter(|_| inside).and_then(|place| intervals.get_mut(place)) {
                Some(interval) => interval.add(bin),
                None => outside.add(bin),
            }
        }
        Some(View { start: start.saturating_mul(seconds), seconds, intervals, outside })
    }

    fn bin(&mut self, time: Timestamp) -> &mut Bin {
        let second = time.as_second();
        if self.bins.len() >= MAX_BINS && !self.bins.contains_key(&second.div_euclid(self.seconds)) {
            self.widen();
        }
        self.bins.entry(second.div_euclid(self.seconds)).or_default()
    }

    fn widen(&mut self) {
        while self.bins.len() >= MAX_BINS {
            let next = LADDER.into_iter().find(|&next| next > self.seconds);
            let next = next.unwrap_or_else(|| self.seconds.saturating_mul(2));
            for (number, bin) in std::mem::take(&mut self.bins) {
                let start = number.saturating_mul(self.seconds);
                self.bins.entry(start.div_euclid(next)).or_default().add(&bin);
            }
            self.seconds = next;
        }
    }

    /// The first and last bin of the stretch with the most records, where stretches are half a year apart.
    fn densest(&self) -> Option<(i64, i64)> {
        let mut best: Option<((i64, i64), u64)> = None;
        let mut stretch: Option<((i64, i64), u64)> = None;
        for (&number, bin) in &self.bins {
            stretch = match stretch {
                Some(((first, last), marks))
                    if (number - last).saturating_mul(self.seconds) <= ODD_PAUSE.max(self.seconds) =>
                {
                    Some(((first, number), marks.saturating_add(bin.marks)))
                }
                _ => Some(((number, number), bin.marks)),
            };
            if let Some((range, marks)) = stretch
                && best.is_none_or(|((first, _), most)| marks > most || first == range.0)
            {
                best = Some((range, marks));
            }
        }
        best.map(|(range, _)| range)
    }

    /// The length of an interval, so that few enough cover `span`.
    fn drawn(&self, span: i64, finest: i64) -> i64 {
        // One more, because the first need not begin where the span does.
        let few = |seconds: i64| span / seconds < MAX_INTERVALS - 1;
        let fits = |seconds: i64| few(seconds) && seconds % self.seconds == 0 && seconds >= finest.min(DAY);
        let mut days = DAY.max(self.seconds);
        DRAWN.into_iter().find(|&seconds| fits(seconds)).unwrap_or_else(|| {
            while !fits(days) {
                days = days.saturating_mul(2);
            }
            days
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn filled(seconds: impl Iterator<Item = i64>) -> Timeline {
        let mut timeline = Timeline::default();
        for second in seconds {
            timeline.mark(at(second));
            timeline.add(at(second), Series::Subnet, 3);
        }
        timeline
    }

    fn total(view: &View) -> u64 {
        view.intervals.iter().map(|bin| bin.of(Series::Subnet)).sum()
    }

    #[test]
    fn what_is_drawn_is_bounded_and_no_byte_is_lost() {
        for (count, step) in [(1, 5), (600, 60), (40_000, 5), (40_000, 3_600), (30_000, 86_400)] {
            let timeline = filled((0..count).map(|index| 1_767_323_045 + index * step));
            assert!(timeline.bins.len() <= MAX_BINS);
            let view = timeline.view(5).unwrap();
            let drawn = view.intervals.len() as i64;
            assert!(drawn <= MAX_INTERVALS && (count < 100 || drawn > MAX_INTERVALS / 8), "{drawn}");
            assert_eq!(total(&view), count as u64 * 3, "{count} at {step}");
            assert!(view.start % view.seconds == 0 && view.start <= 1_767_323_045);
        }
    }

    #[test]
    fn intervals_are_those_of_a_clock() {
        let view = filled((0..600).map(|minute| minute * 60)).view(5).unwrap();
        assert_eq!((view.seconds, view.intervals.len()), (300, 120));
        assert_eq!(view.intervals[7].sum(&Series::CLASSES), 15);
    }

    #[test]
    fn a_wrong_clock_does_not_squeeze_the_rest() {
        let view = filled([0, 5].into_iter().chain((0..600).map(|index| 1_767_323_045 + index * 5)));
        let view = view.view(5).unwrap();
        assert_eq!((total(&view), view.outside.of(Series::Subnet), view.outside.marks), (1_800, 6, 2));
        assert!(view.seconds <= 60, "{}", view.seconds);
    }

    #[test]
    fn absurd_times_and_amounts_are_taken_as_they_are() {
        let mut timeline = Timeline::default();
        timeline.add(Timestamp::MIN, Series::Virtual, u64::MAX);
        timeline.add(Timestamp::MAX, Series::Virtual, 1);
        timeline.add(Timestamp::MAX, Series::Virtual, u64::MAX);
        assert!(timeline.view(5).unwrap().intervals.len() as i64 <= MAX_INTERVALS);
        let mut timeline = Timeline::default();
        for index in 0..20_000 {
            // Days that are months apart, over thousands of years.
            timeline.mark(at(-377_000_000_000 + index * 31_000_000));
        }
        assert!(timeline.bins.len() <= MAX_BINS);
        assert!(timeline.view(5).unwrap().intervals.len() as i64 <= MAX_INTERVALS);
        assert_eq!(Timeline::default().view(5), None);
    }
}
