//! One chart: axes, a grid, lines, a legend.

use svg::node::element::path::Data;
use svg::node::element::{Circle, Group, Line, Path, Rectangle, Text};

use super::scale::{Scale, Tick};

/// Width of a chart with all its margins.
pub const WIDTH: f64 = 960.0;
/// Height of a chart with all its margins.
pub const HEIGHT: f64 = 360.0;
/// The plot itself: left, top, width, height.
const PLOT: (f64, f64, f64, f64) = (92.0, 62.0, 824.0, 230.0);
/// Colours that are told apart by most eyes (Okabe and Ito 2008), yellow left out: it is too light.
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444"];
/// Width of a letter of the legend, about.
const LETTER: f64 = 7.0;
/// Points of a line that are still marked one by one.
const MARKED: usize = 40;

/// A line.
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// What it joins, in the units of the axes.
    pub points: Vec<(f64, f64)>,
    /// Number of its colour: the same thing has the same in every chart.
    pub colour: usize,
}

impl Series {
    fn colour(&self) -> &'static str {
        COLOURS.get(self.colour % COLOURS.len()).copied().unwrap_or("#444444")
    }
}

/// An axis.
pub struct Axis {
    /// What it shows, with its unit.
    pub title: &'static str,
    /// Where values stand.
    pub scale: Scale,
    /// How they are written.
    pub written: fn(f64) -> String,
}

/// A chart.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From below.
    pub y: Axis,
    /// Its lines.
    pub series: Vec<Series>,
    /// A value on the first axis to be marked, and what it is.
    pub mark: Option<(f64, String)>,
}

impl Chart {
    /// The chart, its upper left corner at the origin.
    pub fn draw(&self) -> Group {
        let (left, top, width, height) = PLOT;
        let title = text(left, 26.0, &self.title).set("class", "title");
        let mut group = Group::new().add(title);
        for tick in self.x.scale.ticks() {
            let x = left + tick.at * width;
            group = group.add(grid((x, top), (x, top + height), &tick));
            if let Some(value) = tick.named {
                let label = text(x, top + height + 20.0, &(self.x.written)(value)).set("text-anchor", "middle");
                group = group.add(label);
            }
        }
        for tick in self.y.scale.ticks() {
            let y = top + (1.0 - tick.at) * height;
            group = group.add(grid((left, y), (left + width, y), &tick));
            if let Some(value) = tick.named {
                group = group.add(text(left - 10.0, y + 4.0, &(self.y.written)(value)).set("text-anchor", "end"));
            }
        }
        let frame = Rectangle::new().set("x", left).set("y", top).set("width", width).set("height", height);
        let x_title = text(left + width / 2.0, top + height + 44.0, self.x.title);
        let (at_x, at_y) = (20.0, top + height / 2.0);
        let y_title = text(at_x, at_y, self.y.title).set("transform", format!("rotate(-90 {at_x} {at_y})"));
        group = group
            .add(frame.set("class", "frame"))
            .add(x_title.set("text-anchor", "middle").set("class", "axis"))
            .add(y_title.set("text-anchor", "middle").set("class", "axis"));
        group = self.mark(group);
        for series in &self.series {
            group = self.line(group, series);
        }
        self.legend(group)
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (left, top, width, height) = PLOT;
        let x = left + self.x.scale.place(x) * width;
        let y = top + (1.0 - self.y.scale.place(y)) * height;
        ((x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0)
    }

    fn line(&self, mut group: Group, series: &Series) -> Group {
        let colour = series.colour();
        let places: Vec<(f64, f64)> = series.points.iter().map(|point| self.place(*point)).collect();
        let Some((first, others)) = places.split_first() else { return group };
        let data = others.iter().fold(Data::new().move_to(*first), |data, place| data.line_to(*place));
        group = group.add(Path::new().set("d", data).set("stroke", colour).set("class", "line"));
        if places.len() <= MARKED {
            for (x, y) in places {
                group = group.add(Circle::new().set("cx", x).set("cy", y).set("r", 3).set("fill", colour));
            }
        }
        group
    }

    fn mark(&self, group: Group) -> Group {
        let Some((value, name)) = &self.mark else { return group };
        let (_, top, _, height) = PLOT;
        let (x, _) = self.place((*value, 0.0));
        let line = Line::new().set("x1", x).set("x2", x).set("y1", top).set("y2", top + height).set("class", "mark");
        let on_the_left = self.x.scale.place(*value) > 0.7;
        let (x, anchor) = if on_the_left { (x - 8.0, "end") } else { (x + 8.0, "start") };
        let label = text(x, top + 18.0, name).set("text-anchor", anchor).set("class", "mark-name");
        group.add(line).add(label)
    }

    /// Names and colours, above the plot, from the right.
    fn legend(&self, mut group: Group) -> Group {
        let (left, top, width, _) = PLOT;
        let mut x = left + width;
        for series in self.series.iter().rev() {
            x -= series.name.chars().count() as f64 * LETTER;
            let swatch = Line::new().set("x1", x - 24.0).set("x2", x - 6.0).set("y1", top - 18.0).set("y2", top - 18.0);
            group = group.add(swatch.set("stroke", series.colour()).set("class", "line")).add(text(
                x,
                top - 14.0,
                &series.name,
            ));
            x -= 40.0;
        }
        group
    }
}

fn text(x: f64, y: f64, what: &str) -> Text {
    Text::new(what).set("x", x).set("y", y)
}

fn grid(from: (f64, f64), to: (f64, f64), tick: &Tick) -> Line {
    let class = if tick.named.is_some() { "grid" } else { "fine" };
    Line::new().set("x1", from.0).set("y1", from.1).set("x2", to.0).set("y2", to.1).set("class", class)
}
