//! Plots as SVG: a curve or points over two axes, either of which may be logarithmic.

use core::fmt::Write;

/// One axis.
pub(crate) struct Axis {
    /// What is on it, with the unit.
    pub(crate) title: String,
    /// Whether equal distances are equal ratios; values are then positive.
    pub(crate) logarithmic: bool,
}

/// What is drawn.
pub(crate) struct Series {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Points (x, y) in the order of the line.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether the points are joined.
    pub(crate) line: bool,
}

const SIZE: (f64, f64) = (720.0, 420.0);
/// Left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (80.0, 40.0, 20.0, 60.0);
const COLORS: [&str; 4] = ["#1f6feb", "#d1242f", "#1a7f37", "#9a6700"];

struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn new(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let values: Vec<f64> = values.filter(|value| !logarithmic || *value > 0.0).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match (low.is_finite(), logarithmic) {
            (false, _) => Scale { low: 1.0, high: 10.0, logarithmic },
            (true, true) => {
                let (low, high) = (10f64.powf(low.log10().floor()), 10f64.powf(high.log10().ceil()));
                Scale { low, high: if high > low { high } else { low * 10.0 }, logarithmic }
            }
            (true, false) => {
                Scale { low: low.min(0.0), high: if high > 0.0 { high * 1.05 } else { 1.0 }, logarithmic }
            }
        }
    }

    /// 0 at the low end to 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let (first, last) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
            return (first..=last).map(|power| 10f64.powi(power)).collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..=8).map(|n| self.low + f64::from(n) * step).filter(|value| *value <= self.high).collect()
    }
}

/// The plot as a document of its own.
pub(crate) fn svg(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let (across, up) = (
        Scale::new(points().map(|point| point.0), x.logarithmic),
        Scale::new(points().map(|point| point.1), y.logarithmic),
    );
    let (width, height) = (SIZE.0 - MARGIN.0 - MARGIN.2, SIZE.1 - MARGIN.1 - MARGIN.3);
    let at_x = |value| MARGIN.0 + across.place(value) * width;
    let at_y = |value| MARGIN.1 + (1.0 - up.place(value)) * height;
    let (right, bottom) = (MARGIN.0 + width, MARGIN.1 + height);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"22\" font-size=\"15\">{}</text>",
        SIZE.0,
        SIZE.1,
        MARGIN.0,
        escape(title)
    );
    for value in across.ticks() {
        let at = at_x(value);
        let _ = writeln!(
            out,
            "<path d=\"M{at:.1} {:.1}V{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            MARGIN.1,
            bottom + 18.0,
            label(value)
        );
    }
    for value in up.ticks() {
        let at = at_y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            MARGIN.0,
            MARGIN.0 - 6.0,
            at + 4.0,
            label(value)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        MARGIN.0 + width / 2.0,
        SIZE.1 - 14.0,
        escape(&x.title),
        MARGIN.1 + height / 2.0,
        escape(&y.title)
    );
    for (number, series) in series.iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let shown = series
            .points
            .iter()
            .filter(|(px, py)| (!x.logarithmic || *px > 0.0) && (!y.logarithmic || *py > 0.0));
        let places: Vec<(f64, f64)> = shown.map(|(px, py)| (at_x(*px), at_y(*py))).collect();
        if series.line {
            let path: Vec<String> = places.iter().map(|(px, py)| format!("{px:.1} {py:.1}")).collect();
            let _ = writeln!(
                out,
                "<path d=\"M{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                path.join("L")
            );
        } else {
            for (px, py) in places {
                let _ = writeln!(out, "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\" fill=\"{color}\"/>");
            }
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{color}\">{}</text>",
            right - 6.0,
            MARGIN.1 + 16.0 + 16.0 * number as f64,
            escape(&series.name)
        );
    }
    out + "</svg>\n"
}

/// A number with at most four digits and the prefix of its size.
fn label(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = format!("{scaled:.4}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(logarithmic: bool) -> Axis {
        Axis { title: "a < b".to_owned(), logarithmic }
    }

    #[test]
    fn points_lie_within_the_axes() {
        for logarithmic in [false, true] {
            let points = vec![(1.0, 5.0), (1234.0, 0.001), (7e6, 2e4), (0.0, 0.0)];
            let series = [Series { name: "one & all".to_owned(), points, line: false }];
            let text = svg("title", &axis(logarithmic), &axis(logarithmic), &series);
            assert_eq!(text.matches("<circle").count(), if logarithmic { 3 } else { 4 });
            let value = |text: &str, name: &str| -> f64 {
                let from = text.split(name).nth(1).unwrap();
                from.split('"').next().unwrap().parse().unwrap()
            };
            for circle in text.lines().filter(|line| line.starts_with("<circle")) {
                let (x, y) = (value(circle, "cx=\""), value(circle, "cy=\""));
                assert!((80.0..=700.1).contains(&x) && (39.9..=360.1).contains(&y), "{circle}");
            }
            assert!(text.contains("a &lt; b") && text.contains("one &amp; all"));
            assert!(!text.contains("NaN") && !text.contains("inf"));
        }
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        let text = svg("", &axis(true), &axis(false), &[]);
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n") && !text.contains("NaN"));
    }

    #[test]
    fn labels_are_short() {
        assert_eq!(["1.5k", "2M", "0.001", "0"], [1500.0, 2e6, 0.001, 0.0].map(label));
    }
}
