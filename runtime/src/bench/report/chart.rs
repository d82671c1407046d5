//! Bars as SVG, drawn to stand in a page: sizes are those of its text, colours
//! come from its style sheet (`s0`, `s1` … for the series).
//!
//! Ratios have a logarithmic axis, on which bars grow from 1: to the right where
//! something is slower, to the left where it is faster, equally far for a ratio
//! and its inverse. Times have a linear axis from 0.

use crate::bench::figures::figure;
use std::fmt::Write;

/// Width of the picture; a page of 1000 pixels has room for it.
const WIDTH: f64 = 940.0;
/// Room for labels on the left and for figures on the right.
const LEFT: f64 = 175.0;
const RIGHT: f64 = 60.0;
const BAR: f64 = 11.0;
const BAR_STEP: f64 = 13.0;
const GROUP_GAP: f64 = 7.0;
/// Height of a heading, which has the axis's figures too.
const HEADING: f64 = 30.0;

/// From this ratio of its ends on an axis has figures at powers of ten only.
const WIDE: f64 = 10_000.0;

/// The axis along which bars grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// From 1, for ratios.
    Logarithmic,
    /// From 0, for times.
    Linear,
}

/// Bars that belong together: one per series, where there is a figure.
pub(crate) struct Group {
    pub label: String,
    pub values: Vec<Option<f64>>,
}

/// Groups under a heading.
pub(crate) struct Section {
    pub heading: String,
    pub groups: Vec<Group>,
}

/// The axis with its ends found.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
}

impl Scale {
    /// The scale on which all of `values` have room.
    fn of(axis: Axis, values: &[f64]) -> Self {
        let least = values.iter().copied().fold(1.0, f64::min);
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        match axis {
            Axis::Linear => Self {
                axis,
                low: 0.0,
                high: round_up(most),
            },
            Axis::Logarithmic => Self {
                axis,
                low: 1.0 / round_up(1.0 / least),
                high: round_up(most.max(2.0)),
            },
        }
    }

    fn x(&self, value: f64) -> f64 {
        let along = match self.axis {
            Axis::Linear => value / self.high,
            Axis::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        LEFT + along.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Where bars begin.
    fn origin(&self) -> f64 {
        self.x(if self.axis == Axis::Linear { 0.0 } else { 1.0 })
    }

    fn ticks(&self) -> Vec<f64> {
        if self.axis == Axis::Linear {
            return (0..=5).map(|n| self.high * f64::from(n) / 5.0).collect();
        }
        // Over many decades there is room for their figures only.
        let steps: &[f64] = match self.high / self.low > WIDE {
            true => &[1.0],
            false => &[1.0, 2.0, 5.0],
        };
        let decades = (-6..=9).flat_map(|n| steps.iter().map(move |m| m * 10_f64.powi(n)));
        let inside = |tick: &f64| (self.low * 0.999..=self.high * 1.001).contains(tick);
        decades.filter(inside).collect()
    }
}

/// The next of 1, 2, 5, 10, 20 …
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|step| step * decade);
    let fits = steps.into_iter().find(|step| *step >= value * 0.9999);
    fits.unwrap_or(10.0 * decade)
}

/// The picture; `title` is for those who do not see it.
pub(crate) fn bars(title: &str, axis: Axis, sections: &[Section]) -> String {
    let groups = || sections.iter().flat_map(|section| &section.groups);
    let values: Vec<f64> = groups()
        .flat_map(|group| group.values.iter().flatten().copied())
        .collect();
    let scale = Scale::of(axis, &values);
    let mut body = String::new();
    let mut y = 0.0;
    for section in sections {
        body += &heading(&scale, section, y);
        y += HEADING;
        for group in &section.groups {
            body += &bars_of(&scale, group, y);
            y += height(group);
        }
    }
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {y}\" role=\"img\" aria-label=\"{}\">\n{body}</svg>\n",
        escaped(title)
    )
}

fn height(group: &Group) -> f64 {
    BAR_STEP * group.values.len() as f64 + GROUP_GAP
}

/// A section's heading, and the lines of the axis down to its end.
fn heading(scale: &Scale, section: &Section, y: f64) -> String {
    let bottom = y + HEADING + section.groups.iter().map(height).sum::<f64>();
    let (base, top) = (y + HEADING - 9.0, y + HEADING - 5.0);
    let mut text = format!(
        "<text class=\"heading\" x=\"0\" y=\"{base}\">{}</text>\n",
        escaped(&section.heading)
    );
    for tick in scale.ticks() {
        let x = scale.x(tick);
        let class = if x == scale.origin() {
            "origin"
        } else {
            "grid"
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "<path class=\"{class}\" d=\"M{x:.1} {top}V{bottom}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{base}\">{}</text>",
            label(tick)
        );
    }
    text
}

/// A tick's figure, without needless zeros.
fn label(tick: f64) -> String {
    let rounded = format!("{tick:.3}");
    rounded
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

fn bars_of(scale: &Scale, group: &Group, y: f64) -> String {
    let middle = y + (height(group) - GROUP_GAP) / 2.0 + 4.0;
    let end = LEFT - 8.0;
    let mut text = format!(
        "<text class=\"label\" x=\"{end}\" y=\"{middle}\">{}</text>\n",
        escaped(&group.label)
    );
    for (series, value) in group.values.iter().enumerate() {
        let Some(value) = *value else { continue };
        let y = y + BAR_STEP * series as f64;
        let (from, to) = (scale.origin(), scale.x(value));
        let (left, right) = (from.min(to), from.max(to));
        let (width, base) = ((right - left).max(1.5), y + BAR - 1.5);
        // Figures stand right of the bar, also where it grows to the left.
        let _ = writeln!(
            text,
            "<rect class=\"s{series}\" x=\"{left:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{base}\">{}</text>",
            right + 4.0,
            figure(Some(value))
        );
    }
    text
}

/// Text as HTML and SVG have it.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(axis: Axis, values: &[Option<f64>]) -> String {
        let group = Group {
            label: "a<b".into(),
            values: values.to_vec(),
        };
        let section = Section {
            heading: "one".into(),
            groups: vec![group],
        };
        bars("a picture", axis, &[section])
    }

    #[test]
    fn a_ratio_and_its_inverse_are_equally_long() {
        let scale = Scale::of(Axis::Logarithmic, &[0.5, 2.0]);
        assert_eq!((scale.low, scale.high), (0.5, 2.0));
        let reach = |ratio| (scale.x(ratio) - scale.origin()).abs();
        assert!((reach(0.5) - reach(2.0)).abs() < 1e-9);
    }

    #[test]
    fn bars_are_there_for_figures_only() {
        let text = picture(Axis::Logarithmic, &[Some(20.0), None, Some(0.1)]);
        assert_eq!(text.matches("<rect").count(), 2);
        assert!(text.contains("class=\"s0\"") && text.contains("class=\"s2\""));
        assert!(text.contains(">20.0</text>") && text.contains("a&lt;b"));
    }

    #[test]
    fn ends_of_axes_are_round() {
        assert_eq!([0.7, 3.4, 788.0].map(round_up), [1.0, 5.0, 1000.0]);
        let scale = Scale::of(Axis::Logarithmic, &[1.0, 30_000.0]);
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
        let scale = Scale::of(Axis::Linear, &[5.5]);
        assert_eq!(scale.ticks(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!([0.05, 2.0, 1000.0].map(label), ["0.05", "2", "1000"]);
    }

    #[test]
    fn nothing_to_draw_is_no_picture_of_something() {
        for axis in [Axis::Linear, Axis::Logarithmic] {
            assert!(!picture(axis, &[None]).contains("NaN"));
        }
    }
}
