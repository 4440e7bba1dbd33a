//! Paired figures: the ratio is taken pair by pair, then its median.

use serde::Serialize;

/// One run of one arm.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Outcome {
    /// The row's figure.
    pub value: f64,
    /// CPU of the whole machine in nanoseconds per byte (bulk) or per transaction.
    pub cpu_per_unit: f64,
}

/// All pairs of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Pairs {
    name: String,
    unit: &'static str,
    less_is_better: bool,
    stackd: Vec<Outcome>,
    native: Vec<Outcome>,
}

impl Pairs {
    /// No pairs yet.
    pub fn new(name: String, unit: &'static str, less_is_better: bool) -> Self {
        Self { name, unit, less_is_better, stackd: Vec::new(), native: Vec::new() }
    }

    /// One more pair.
    pub fn push(&mut self, stackd: Outcome, native: Outcome) {
        self.stackd.push(stackd);
        self.native.push(native);
    }

    /// Median over pairs of stackd / native.
    pub fn median_ratio(&self) -> f64 {
        median(self.stackd.iter().zip(&self.native).map(|(a, b)| a.value / b.value).collect())
    }

    /// One line: medians of both arms, median ratio with its extremes, CPU ratio.
    pub fn line(&self) -> String {
        let ratios: Vec<f64> = self.stackd.iter().zip(&self.native).map(|(a, b)| a.value / b.value).collect();
        let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let high = ratios.iter().copied().fold(0.0, f64::max);
        let cpu = median(self.stackd.iter().zip(&self.native).map(|(a, b)| a.cpu_per_unit / b.cpu_per_unit).collect());
        format!(
            "{:<10} stackd {:>9.2} {unit}  native {:>9.2} {unit}  ratio {:>6.3} [{low:.3} .. {high:.3}]{}  CPU ratio {cpu:.2}  n={}",
            self.name,
            median(self.stackd.iter().map(|o| o.value).collect()),
            median(self.native.iter().map(|o| o.value).collect()),
            self.median_ratio(),
            if self.less_is_better { " (less is better)" } else { "" },
            ratios.len(),
            unit = self.unit,
        )
    }
}

/// The middle value; the mean of the two middle ones of an even count. Zero for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_pair_by_pair() {
        let mut p = Pairs::new("x".into(), "u", false);
        for (a, b) in [(1.0, 2.0), (30.0, 10.0), (8.0, 8.0)] {
            p.push(Outcome { value: a, cpu_per_unit: 1.0 }, Outcome { value: b, cpu_per_unit: 1.0 });
        }
        assert_eq!(p.median_ratio(), 1.0);
    }

    #[test]
    fn median_of_even_counts_is_the_mean_of_the_middle() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
    }
}
