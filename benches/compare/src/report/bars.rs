//! Charts: for each figure a picture, in it for each row a bar an engine.

use super::number::{short, times};
use super::{Report, ratio};
use crate::error::Error;
use crate::figures::{METRICS, Metric, Spread};
use crate::peer::Engine;
use crate::row::Row;
use std::path::Path;
use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Style, Text};

const WIDTH: f64 = 960.0;
/// Height of the title above all rows.
const HEAD: f64 = 104.0;
/// Height of a row's own title, of a bar with the gap below it, of the gap below a row.
const TITLE: f64 = 26.0;
const STEP: f64 = 24.0;
const BAR: f64 = 18.0;
const GAP: f64 = 18.0;
/// Where bars begin, and how long the longest is: behind it stands what it shows.
const LEFT: f64 = 110.0;
const LONGEST: f64 = 560.0;
/// Colours that are told apart by most eyes (Okabe and Ito 2008): an engine has the same in every chart.
const COLOURS: [(Engine, &str); 4] =
    [(Engine::Ringkv, "#0072B2"), (Engine::Fjall, "#D55E00"), (Engine::Lmdb, "#009E73"), (Engine::Rocksdb, "#CC79A7")];
const STYLE: &str = "
text { font: 13px system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif; fill: #333 }
.head { font-size: 20px; font-weight: 600; fill: #111 } .sub { fill: #666 }
.title { font-size: 15px; font-weight: 600; fill: #111 } .ratio { fill: #666 }
.spread { stroke: #111; stroke-width: 1.2 } .axis { stroke: #9a9a9a; stroke-width: 1 }
";

/// Draws every figure into a file of its own in `dir`; `conditions` stand below each title.
///
/// # Errors
/// Those of writing.
pub fn write(report: &Report, conditions: &str, dir: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
    for metric in &METRICS {
        if let Some(picture) = picture(report, metric, conditions) {
            let path = dir.join(format!("{}.svg", metric.key));
            svg::save(&path, &picture).map_err(Error::file("write", &path))?;
        }
    }
    Ok(())
}

/// The bars of one row.
struct Bars {
    row: Row,
    bars: Vec<(Engine, Spread)>,
}

impl Bars {
    fn height(&self) -> f64 {
        TITLE + self.bars.len() as f64 * STEP + GAP
    }
}

fn picture(report: &Report, metric: &Metric, conditions: &str) -> Option<Document> {
    // Beside nothing all bars are short.
    let mut engines = report.engines();
    engines.retain(|engine| *engine != Engine::Null);
    let of_row = |row: Row| {
        let bar = |engine: &Engine| Some((*engine, report.spread(row, *engine, metric)?));
        Bars { row, bars: engines.iter().filter_map(bar).collect() }
    };
    let rows: Vec<Bars> = report.rows().into_iter().map(of_row).filter(|row| !row.bars.is_empty()).collect();
    let first = *engines.first().filter(|_| !rows.is_empty())?;
    let height = HEAD + rows.iter().map(Bars::height).sum::<f64>();
    let better = if metric.more_is_better { "longer is better" } else { "shorter is better" };
    let title = format!("{}: {better}", metric.name);
    let below = format!("bars: medians; lines: from the least to the greatest of all runs; ratios: {first} over each");
    let mut document = Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .add(Style::new(STYLE))
        .add(Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#fff"))
        .add(text(24.0, 34.0, &title).set("class", "head"))
        .add(text(24.0, 56.0, conditions).set("class", "sub"))
        .add(text(24.0, 76.0, &below).set("class", "sub"));
    let mut down = HEAD;
    for row in &rows {
        document = document.add(draw(row, first).set("transform", format!("translate(0 {down})")));
        down += row.height();
    }
    Some(document)
}

fn draw(row: &Bars, first: Engine) -> Group {
    let longest = row.bars.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let place = |value: f64| (LEFT + value / longest * LONGEST).round();
    let of_first = row.bars.iter().find(|(engine, _)| *engine == first).map(|(_, spread)| *spread);
    let mut group = Group::new().add(text(24.0, 14.0, row.row.title()).set("class", "title"));
    for (at, (engine, spread)) in row.bars.iter().enumerate() {
        let top = TITLE + at as f64 * STEP;
        let middle = top + BAR / 2.0;
        let (end, least, most) = (place(spread.median), place(spread.least), place(spread.most));
        let bar = Rectangle::new().set("x", LEFT).set("y", top).set("width", (end - LEFT).max(1.0)).set("height", BAR);
        group = group
            .add(text(LEFT - 10.0, middle + 4.5, engine.name()).set("text-anchor", "end"))
            .add(bar.set("fill", colour(*engine)).set("rx", 2));
        if most - least >= 2.0 {
            group = group.add(line((least, middle), (most, middle)).set("class", "spread"));
        }
        let after = end.max(most) + 10.0;
        group = group.add(text(after, middle + 4.5, &short(spread.median)));
        if let Some(ratio) = ratio(of_first, Some(*spread)).filter(|_| *engine != first) {
            let words = format!("{first}/{engine} {}", times(ratio));
            group = group.add(text(after + 64.0, middle + 4.5, &words).set("class", "ratio"));
        }
    }
    let bottom = TITLE + row.bars.len() as f64 * STEP - (STEP - BAR) + 2.0;
    group.add(line((LEFT, TITLE - 2.0), (LEFT, bottom)).set("class", "axis"))
}

fn colour(engine: Engine) -> &'static str {
    COLOURS.iter().find(|(of, _)| *of == engine).map_or("#444444", |(_, colour)| colour)
}

fn text(x: f64, y: f64, what: &str) -> Text {
    Text::new(what).set("x", x).set("y", y)
}

fn line(from: (f64, f64), to: (f64, f64)) -> Line {
    Line::new().set("x1", from.0).set("y1", from.1).set("x2", to.0).set("y2", to.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::figures;

    #[test]
    fn a_figure_that_there_is_has_a_chart() {
        let mut report = Report::default();
        report.add(figures(Engine::Fjall, Row::LoadRandom, 1.0));
        report.add(figures(Engine::Lmdb, Row::LoadRandom, 0.5));
        report.add(figures(Engine::Null, Row::LoadRandom, 0.001));
        let dir = tempfile::tempdir().unwrap();
        write(&report, "1,000 entries", dir.path()).unwrap();
        let rate = std::fs::read_to_string(dir.path().join("rate.svg")).unwrap();
        assert!(rate.contains("fjall/LMDB 0.500x") && rate.contains("longer is better") && rate.contains("2.00k"));
        assert!(!rate.contains("null"));
        assert!(!dir.path().join("read.svg").exists());
    }
}
