//! Plots as SVG: lines over linear or logarithmic axes, which is all that the reports need.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Pixels of a plot.
const SIZE: (u32, u32) = (860, 420);

/// One axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// What it says.
    pub label: &'a str,
    /// Whether equal distances are equal factors.
    pub logarithmic: bool,
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

impl Axis<'_> {
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.max(1e-9).log10() } else { value }
    }

    fn text(&self, place: f64) -> String {
        let value = if self.logarithmic { 10f64.powf(place) } else { place };
        match value.abs() {
            0.0..0.095 if value != 0.0 => format!("{value:.3}"),
            0.095..9.95 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }
}

/// Draws `series`; the SVG's text.
pub fn lines(title: &str, x: Axis<'_>, y: Axis<'_>, series: &[Series]) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, title, x, y, series).map_err(|error| anyhow!("cannot plot {title}: {error}"))?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    title: &str,
    x: Axis<'_>,
    y: Axis<'_>,
    series: &[Series],
) -> Result<(), Box<dyn std::error::Error>> {
    let places = || {
        let points = series.iter().flat_map(|one| &one.points);
        points.map(|&(a, b)| (x.place(a), y.place(b)))
    };
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
        }
        let room = if high > low { (high - low) * 0.04 } else { 0.5 };
        if low.is_finite() { low - room..high + room } else { 0.0..1.0 }
    };
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(
            range(&mut places().map(|place| place.0)),
            range(&mut places().map(|place| place.1)),
        )?;
    chart
        .configure_mesh()
        .x_desc(x.label)
        .y_desc(y.label)
        .x_label_formatter(&|place| x.text(*place))
        .y_label_formatter(&|place| y.text(*place))
        .light_line_style(WHITE)
        .draw()?;
    for (index, one) in series.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let points: Vec<(f64, f64)> =
            one.points.iter().map(|&(a, b)| (x.place(a), y.place(b))).collect();
        if points.len() <= 40 {
            chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
        }
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(&one.name)
            .legend(move |(a, b)| PathElement::new([(a, b), (a + 18, b)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_one_svg_with_its_legend_whatever_the_points() {
        let axis = |label, logarithmic| Axis { label, logarithmic };
        for points in [vec![], vec![(0.0, 0.0)], vec![(1.0, 10.0), (1000.0, 10.0)]] {
            let series = [Series { name: "kernel & co".to_owned(), points }];
            let svg = lines("title", axis("load", true), axis("µs", false), &series).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("kernel &amp; co"), "{svg}");
        }
    }
}
