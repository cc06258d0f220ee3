//! Plots as plain SVG, readable in light and in dark.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Room for the labels: left, right, top, bottom.
const MARGINS: (f64, f64, f64, f64) = (84.0, 24.0, 64.0, 56.0);
/// The look. Colours of lines can be told apart by who sees no red or no green, and each line has its own sign, too.
const STYLE: &str = "
.paper { fill: #ffffff } .ink { fill: #1f2430 } .faint { fill: #5b6472 } .grid { stroke: #d9dee6 }
.s0 { stroke: #0b62a8; fill: #0b62a8 } .s1 { stroke: #b4530a; fill: #b4530a } .s2 { stroke: #4c7a1d; fill: #4c7a1d }
@media (prefers-color-scheme: dark) {
.paper { fill: #161a21 } .ink { fill: #e6e9ee } .faint { fill: #a3adbb } .grid { stroke: #343c49 }
.s0 { stroke: #6cb6ff; fill: #6cb6ff } .s1 { stroke: #f0a35e; fill: #f0a35e } .s2 { stroke: #9ccc65; fill: #9ccc65 }
}
text { font: 13px system-ui, sans-serif; stroke: none } .title { font-size: 16px; font-weight: 600 }
polyline { fill: none; stroke-width: 2.5; stroke-linejoin: round }
";

/// One line of a plot.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines over one logarithmic axis of sizes or numbers. The other axis is logarithmic where what it shows grows so.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) across: String,
    pub(crate) up: String,
    /// Whether the vertical axis is logarithmic; otherwise it begins at nothing.
    pub(crate) is_log: bool,
    /// The marks of the horizontal axis, with their words.
    pub(crate) marks: Vec<(f64, String)>,
    pub(crate) lines: Vec<Line>,
}

impl Plot {
    pub(crate) fn svg(&self) -> String {
        let mut svg = String::new();
        let mut put = |text: String| svg.push_str(&text);
        put(format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n"));
        put(format!("<title>{}</title>\n<style>{STYLE}</style>\n", escaped(&self.title)));
        put(format!("<rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n"));
        put(text(MARGINS.0, 26.0, "start", "ink title", &self.title));
        put(self.frame());
        put(self.legend());
        for (index, line) in self.lines.iter().enumerate() {
            put(self.line(index, line));
        }
        put("</svg>\n".to_owned());
        svg
    }

    /// Draws the axes with their marks, and what they show.
    fn frame(&self) -> String {
        let (left, right, top, bottom) = (MARGINS.0, WIDTH - MARGINS.1, MARGINS.2, HEIGHT - MARGINS.3);
        let mut out = String::new();
        for mark in self.up_marks() {
            let y = self.y(mark);
            let _ = writeln!(out, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            out += &text(left - 8.0, y + 4.0, "end", "faint", &short(mark));
        }
        for (mark, word) in &self.marks {
            let x = self.x(*mark);
            let _ = writeln!(out, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
            out += &text(x, bottom + 18.0, "middle", "faint", word);
        }
        out += &text(f64::midpoint(left, right), HEIGHT - 12.0, "middle", "ink", &self.across);
        let middle = f64::midpoint(top, bottom);
        let _ = writeln!(
            out,
            "<text class=\"ink\" transform=\"translate(18 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.up)
        );
        out
    }

    fn legend(&self) -> String {
        let mut out = String::new();
        let mut x = MARGINS.0;
        for (index, line) in self.lines.iter().enumerate() {
            out += &sign(index, x + 5.0, 44.0);
            out += &text(x + 16.0, 48.0, "start", "ink", &line.name);
            x += 40.0 + 7.2 * line.name.chars().count() as f64;
        }
        out
    }

    fn line(&self, index: usize, line: &Line) -> String {
        let places: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (self.x(*x), self.y(*y))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let signs: String = places.iter().map(|(x, y)| sign(index, *x, *y)).collect();
        format!("<polyline class=\"s{index}\" points=\"{}\" style=\"fill:none\"/>\n{signs}", path.join(" "))
    }

    fn x(&self, value: f64) -> f64 {
        let all = || self.marks.iter().map(|(mark, _)| *mark).chain(self.lines.iter().flat_map(|line| line.points.iter().map(|p| p.0)));
        let (low, high) = (all().fold(f64::INFINITY, f64::min).log10(), all().fold(0.0, f64::max).log10());
        let part = if high > low { (value.log10() - low) / (high - low) } else { 0.5 };
        MARGINS.0 + 16.0 + part * (WIDTH - MARGINS.0 - MARGINS.1 - 32.0)
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = self.range();
        let part = if self.is_log { (value.max(low).log10() - low.log10()) / (high.log10() - low.log10()) } else { value / high };
        HEIGHT - MARGINS.3 - part * (HEIGHT - MARGINS.2 - MARGINS.3)
    }

    /// Returns the ends of the vertical axis.
    fn range(&self) -> (f64, f64) {
        let all = || self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::MIN_POSITIVE, f64::max));
        if !self.is_log {
            let step = step_below(most);
            return (0.0, (most / step).ceil() * step);
        }
        let low = 10_f64.powf(least.max(most / 1e6).log10().floor());
        (low, 10_f64.powf(most.log10().ceil()).max(low * 10.0))
    }

    fn up_marks(&self) -> Vec<f64> {
        let (low, high) = self.range();
        if !self.is_log {
            let step = step_below(high);
            return (0..=(high / step).round() as usize).map(|n| n as f64 * step).collect();
        }
        (low.log10().round() as i32..=high.log10().round() as i32).map(|power| 10_f64.powi(power)).collect()
    }
}

/// Returns a round step that divides so much into three to seven.
fn step_below(most: f64) -> f64 {
    let power = 10_f64.powf((most / 3.0).log10().floor());
    [5.0, 2.0, 1.0].into_iter().map(|step| step * power).find(|step| most / step >= 3.0).unwrap_or(power)
}

fn sign(index: usize, x: f64, y: f64) -> String {
    match index {
        0 => format!("<circle class=\"s0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>\n"),
        1 => format!("<rect class=\"s1\" x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"/>\n", x - 4.0, y - 4.0),
        _ => format!("<path class=\"s2\" d=\"M{x:.1} {:.1}l5 9h-10z\"/>\n", y - 5.0),
    }
}

fn text(x: f64, y: f64, anchor: &str, class: &str, words: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escaped(words))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// Writes a number as an axis has it.
fn short(number: f64) -> String {
    if number >= 1e6 {
        format!("{}M", number / 1e6)
    } else if number >= 1e4 {
        format!("{}k", number / 1e3)
    } else {
        // Up to six digits, without the noise of binary fractions.
        format!("{}", (number * 1e6).round() / 1e6)
    }
}
