//! Random delays without IO. The same stream of random numbers gives the same delays.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::fault_control::{Distribution, Shape};

/// Shape parameter of the Pareto distribution, as in the table of netem. The mean of the added delay is half of the scale.
const PARETO_SHAPE: f64 = 3.0;
/// Most extreme quantile that is drawn: one in 100,000. At this quantile a Pareto distribution adds 45 times its scale.
const FARTHEST: f64 = 1e-5;

/// Sampler of successive delays for one stream of packets, or for the reads of one connection.
#[derive(Debug)]
pub struct DelaySampler {
    rng: ChaCha8Rng,
    /// Previous standard normal deviate; `None` before the first delay.
    last: Option<f64>,
}

impl DelaySampler {
    #[must_use]
    pub fn new(rng: ChaCha8Rng) -> Self {
        Self { rng, last: None }
    }

    /// Returns the next delay, which is never negative. The correlation applies to the normal deviates that choose the quantiles, so it
    /// does not change the distribution of delays.
    pub fn delay(&mut self, shape: &Shape) -> Duration {
        if shape.jitter.is_zero() {
            return shape.delay;
        }
        let deviate = self.deviate(shape.correlation);
        let factor = match shape.distribution {
            Distribution::Uniform => 2.0 * below(deviate) - 1.0,
            Distribution::Normal => deviate,
            Distribution::Pareto => below(-deviate).max(FARTHEST).powf(-1.0 / PARETO_SHAPE) - 1.0,
        };
        let seconds = shape.delay.as_secs_f64() + factor * shape.jitter.as_secs_f64();
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }

    fn deviate(&mut self, correlation: f64) -> f64 {
        let correlation = correlation.clamp(0.0, 1.0);
        let fresh = self.normal();
        let next = self.last.map_or(fresh, |last| correlation * last + (1.0 - correlation * correlation).sqrt() * fresh);
        self.last = Some(next);
        next
    }

    /// Returns a standard normal deviate by the method of Box and Muller. The second deviate is discarded, so that each delay takes two
    /// numbers of the random stream.
    fn normal(&mut self) -> f64 {
        let (radius, angle): (f64, f64) = (self.rng.random(), self.rng.random());
        (-2.0 * (1.0 - radius).ln()).sqrt() * (TAU * angle).cos()
    }
}

/// Returns the cumulative probability of a standard normal distribution at `deviate`. The calculation uses formula 7.1.26 of Abramowitz and
/// Stegun, accurate to 1.5e-7.
fn below(deviate: f64) -> f64 {
    let x = deviate.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = series.iter().fold(0.0, |sum, factor| (sum + factor) * t) * (-x * x).exp() / 2.0;
    if deviate < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaosrun_base::seed;

    const DRAWS: u32 = 20_000;

    fn drawn(shape: Shape, seed: u64) -> Vec<f64> {
        let mut scatter = DelaySampler::new(seed::stream(seed, "test"));
        (0..DRAWS).map(|_| scatter.delay(&shape).as_secs_f64() * 1000.0).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / f64::from(DRAWS)
    }

    fn shape(distribution: Distribution, correlation: f64) -> Shape {
        let (delay, jitter) = (Duration::from_millis(100), Duration::from_millis(10));
        Shape { delay, jitter, distribution, correlation, ..Shape::default() }
    }

    #[test]
    fn delays_follow_the_distribution_for_any_correlation() {
        for correlation in [0.0, 0.6] {
            let uniform = drawn(shape(Distribution::Uniform, correlation), 1);
            assert!((mean(&uniform) - 100.0).abs() < 0.5, "{}", mean(&uniform));
            assert!(uniform.iter().all(|value| (90.0..=110.0).contains(value)));
            let edges = uniform.iter().filter(|value| !(91.0..109.0).contains(*value)).count();
            assert!((1500..2500).contains(&edges), "a tenth lies in the outer tenth: {edges}");

            let normal = drawn(shape(Distribution::Normal, correlation), 1);
            let variance = mean(&normal.iter().map(|value| (value - 100.0).powi(2)).collect::<Vec<_>>());
            assert!((mean(&normal) - 100.0).abs() < 0.5 && (variance.sqrt() - 10.0).abs() < 0.5, "{variance}");

            let pareto = drawn(shape(Distribution::Pareto, correlation), 1);
            assert!((mean(&pareto) - 105.0).abs() < 0.7, "{}", mean(&pareto));
            assert!(pareto.iter().all(|value| *value >= 99.99), "nothing comes before the delay");
            let far = pareto.iter().filter(|value| **value > 110.0).count();
            assert!((2000..3000).contains(&far), "an eighth lies beyond the scale: {far}");
        }
    }

    #[test]
    fn successive_delays_correlate_and_depend_on_the_seed() {
        let neighbours = |correlation| {
            let values = drawn(shape(Distribution::Normal, correlation), 2);
            mean(&values.windows(2).map(|two| (two[0] - 100.0) * (two[1] - 100.0) / 100.0).collect::<Vec<_>>())
        };
        assert!(neighbours(0.0).abs() < 0.05 && (neighbours(0.8) - 0.8).abs() < 0.1);
        let uniform = shape(Distribution::Uniform, 0.3);
        assert_eq!(drawn(uniform, 5), drawn(uniform, 5));
        assert_ne!(drawn(uniform, 5), drawn(uniform, 6));
        let mut plain = DelaySampler::new(seed::stream(5, "test"));
        assert_eq!(plain.delay(&Shape { jitter: Duration::ZERO, ..uniform }), uniform.delay);
    }
}
