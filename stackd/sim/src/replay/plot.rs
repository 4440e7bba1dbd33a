//! cwnd, pacing, RTT and recovery over time, as SVG.

use super::show::Row;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use stackd_tcp::record::{View, Way};

const SIZE: (u32, u32) = (1200, 1000);
/// Points of a curve: more than that nobody sees.
const MOST_POINTS: usize = 20_000;
const RECORDED: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const CHANGED: RGBColor = RGBColor(0xd6, 0x27, 0x28);

/// What a panel shows.
struct Panel {
    title: &'static str,
    of: fn(&View) -> Option<f64>,
}

const PANELS: [Panel; 4] = [
    Panel { title: "cwnd, packets", of: |v| Some(v.cwnd as f64) },
    Panel {
        title: "pacing, Mbit/s",
        of: |v| (v.pacing_rate != u64::MAX && v.pacing_rate != 0).then_some(v.pacing_rate as f64 * 8e-6),
    },
    Panel { title: "smoothed RTT, ms", of: |v| (v.srtt != 0).then_some(v.srtt as f64 * 1e-6) },
    Panel { title: "recovery: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss", of: |v| Some(v.ca_state as f64) },
];

type Curve = Vec<(f64, f64)>;

/// Collects the curves.
pub struct Plot {
    way: Way,
    recorded: [Curve; PANELS.len()],
    changed: [Curve; PANELS.len()],
}

impl Plot {
    pub fn new(way: Way) -> Self {
        Self { way, recorded: Default::default(), changed: Default::default() }
    }

    pub fn see(&mut self, row: &Row<'_>) {
        let at = row.since.as_secs_f64();
        let (recorded, now) = row.views();
        for (i, panel) in PANELS.iter().enumerate() {
            step(&mut self.recorded[i], at, (panel.of)(recorded));
            step(&mut self.changed[i], at, (panel.of)(now));
        }
    }

    /// The picture.
    pub fn draw(mut self, title: &str) -> Result<String> {
        let mut svg = String::new();
        let end = self.recorded.iter().flatten().map(|p| p.0).fold(1e-6, f64::max);
        let begin = self.recorded.iter().flatten().map(|p| p.0).fold(end, f64::min).min(end - 1e-6);
        {
            let failed = |e: DrawingAreaErrorKind<std::io::Error>| anyhow!("cannot draw: {e}");
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            root.fill(&WHITE).map_err(failed)?;
            let root = root.titled(title, ("sans-serif", 20)).map_err(failed)?;
            for (i, area) in root.split_evenly((PANELS.len(), 1)).iter().enumerate() {
                let curves = [core::mem::take(&mut self.recorded[i]), core::mem::take(&mut self.changed[i])];
                panel(area, PANELS[i].title, begin..end, curves, self.way).map_err(failed)?;
            }
            root.present().map_err(failed)?;
        }
        Ok(svg)
    }
}

/// A curve of steps: the value holds until the next one.
fn step(curve: &mut Curve, at: f64, value: Option<f64>) {
    let Some(value) = value else { return };
    match curve.last() {
        Some(&(_, last)) if last == value => {
            // The last point of a level moves along with it.
            if let [.., (_, before), (t, level)] = &mut curve[..]
                && before == level
            {
                *t = at;
            } else {
                curve.push((at, value));
            }
        }
        Some(&(_, last)) => curve.extend([(at, last), (at, value)]),
        None => curve.push((at, value)),
    }
}

/// So many points that the picture is the same: of each stretch its first, lowest, highest and last.
fn thin(curve: Curve) -> Curve {
    let stretch = (curve.len() * 4).div_ceil(MOST_POINTS).max(4);
    if curve.len() <= MOST_POINTS {
        return curve;
    }
    let mut out = Vec::with_capacity(MOST_POINTS + 4);
    for points in curve.chunks(stretch) {
        let mut keep: Vec<(f64, f64)> = Vec::with_capacity(4);
        keep.extend(points.first());
        keep.extend(points.iter().min_by(|a, b| a.1.total_cmp(&b.1)));
        keep.extend(points.iter().max_by(|a, b| a.1.total_cmp(&b.1)));
        keep.extend(points.last());
        keep.sort_by(|a, b| a.0.total_cmp(&b.0));
        out.append(&mut keep);
    }
    out
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(
    area: &Area<'_>,
    title: &str,
    time: std::ops::Range<f64>,
    curves: [Curve; 2],
    way: Way,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let top = curves.iter().flatten().map(|p| p.1).fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(60)
        .build_cartesian_2d(time, 0.0..top)?;
    chart.configure_mesh().light_line_style(WHITE).draw()?;
    let [recorded, changed] = curves;
    chart.draw_series(LineSeries::new(thin(recorded), &RECORDED))?.label("recorded").legend(|p| key(p, RECORDED));
    if way == Way::OpenLoop {
        chart.draw_series(LineSeries::new(thin(changed), &CHANGED))?.label("changed").legend(|p| key(p, CHANGED));
        chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    }
    Ok(())
}

fn key(at: (i32, i32), color: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new([at, (at.0 + 16, at.1)], color)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_takes_two_points_however_long_it_lasts() {
        let mut curve = Vec::new();
        for i in 0..100 {
            step(&mut curve, f64::from(i), Some(if i < 50 { 10.0 } else { 20.0 }));
        }
        assert_eq!(curve, [(0.0, 10.0), (49.0, 10.0), (50.0, 10.0), (50.0, 20.0), (99.0, 20.0)]);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut curve: Curve = (0..200_000).map(|i| (f64::from(i), 5.0)).collect();
        curve[77_777].1 = 99.0;
        curve[99_999].1 = -1.0;
        let thin = thin(curve);
        assert!(thin.len() < 2 * MOST_POINTS);
        assert!(thin.contains(&(77_777.0, 99.0)) && thin.contains(&(99_999.0, -1.0)));
    }
}
