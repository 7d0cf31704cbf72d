//! Medians, ratios, and how they are shown.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{Contest, Measurement, Options};

/// All measurements of a run of the program.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    seconds: u16,
    /// Processors that the machine lets us use.
    processors: usize,
    contests: Vec<Results>,
    #[serde(skip)]
    baseline: Option<usize>,
}

/// One contest's.
#[derive(Debug, Clone, Serialize)]
struct Results {
    name: String,
    rounds: Vec<Measurement>,
}

/// What is shown of a contest.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Summary {
    name: String,
    /// Medians of the rounds.
    median: Measurement,
    /// To the newest wireguard-go at both ends in the same round, median; more is better.
    speed_ratio: Option<f64>,
    /// The same of processor time, both ends together; less is better.
    cpu_ratio: Option<f64>,
}

impl Report {
    pub(super) fn new(contests: &[Contest], options: &Options) -> Self {
        Self {
            seconds: options.seconds,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            contests: contests
                .iter()
                .map(|contest| Results { name: contest.name(), rounds: Vec::new() })
                .collect(),
            baseline: contests.iter().position(|contest| *contest == Contest::BASELINE),
        }
    }

    pub(super) fn add(&mut self, contest: usize, measurement: Measurement) {
        if let Some(results) = self.contests.get_mut(contest) {
            results.rounds.push(measurement);
        }
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header([
            "contest",
            "Mbit/s",
            "sender CPU-s/GB",
            "receiver CPU-s/GB",
            "speed ratio",
            "CPU ratio",
        ]);
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        for summary in self.summaries() {
            table.add_row([
                summary.name,
                format!("{:.0}", summary.median.mbit_per_s),
                format!("{:.2}", summary.median.sender_cpu_s_per_gb),
                format!("{:.2}", summary.median.receiver_cpu_s_per_gb),
                ratio(summary.speed_ratio),
                ratio(summary.cpu_ratio),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }

    /// For programs: the summaries and every measurement.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "seconds": self.seconds,
            "processors": self.processors,
            "summaries": self.summaries(),
            "contests": self.contests,
        })
    }

    fn summaries(&self) -> Vec<Summary> {
        self.contests.iter().filter_map(|results| self.summary(results)).collect()
    }

    fn summary(&self, results: &Results) -> Option<Summary> {
        let of = |value: fn(&Measurement) -> f64| median(results.rounds.iter().map(value).collect());
        let baseline = self.baseline.and_then(|index| self.contests.get(index));
        let ratio = |value: fn(&Measurement) -> f64| {
            let pairs = results.rounds.iter().zip(&baseline?.rounds);
            median(pairs.map(|(own, base)| value(own) / value(base)).collect())
        };
        Some(Summary {
            name: results.name.clone(),
            median: Measurement {
                mbit_per_s: of(|m| m.mbit_per_s)?,
                sender_cpu_s_per_gb: of(|m| m.sender_cpu_s_per_gb)?,
                receiver_cpu_s_per_gb: of(|m| m.receiver_cpu_s_per_gb)?,
            },
            speed_ratio: ratio(|m| m.mbit_per_s),
            cpu_ratio: ratio(Measurement::cpu_s_per_gb),
        })
    }
}

/// The middle value, or the mean of the two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Offload;

    #[test]
    fn ratios_are_taken_within_a_round_and_then_the_middle_one() {
        let options = Options { seconds: 5, rounds: 3, json: false, no_offload: false, only: None };
        let contests = Contest::all(Offload::On, false);
        let (own, base) = (0, contests.len() - 1);
        let mut report = Report::new(&contests, &options);
        // The machine gets slower from round to round; the ratio stays.
        for (slow, ratio) in [(1.0, 2.0), (4.0, 3.0), (10.0, 2.5)] {
            let measurement = |ratio: f64| Measurement {
                mbit_per_s: ratio * 1000.0 / slow,
                sender_cpu_s_per_gb: slow,
                receiver_cpu_s_per_gb: slow / ratio,
            };
            report.add(own, measurement(ratio));
            report.add(base, measurement(1.0));
        }
        let summaries = report.summaries();
        assert_eq!(summaries.len(), 2, "contests without a result are not shown");
        assert_eq!(summaries[0].speed_ratio, Some(2.5));
        assert_eq!(summaries[0].cpu_ratio, Some(0.7));
        assert_eq!(summaries[0].median.mbit_per_s, 750.0);
        assert_eq!(summaries[1].speed_ratio, Some(1.0));
        let table = report.table();
        assert!(table.contains("tuntrail → tuntrail") && table.contains("2.50"), "{table}");
        assert_eq!(report.json()["contests"][0]["rounds"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![]), None);
    }
}
