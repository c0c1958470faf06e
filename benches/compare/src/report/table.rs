//! A table a row: figures down, engines across, beside each the ratio of the first to it.

use super::number::{short, times};
use super::{Report, ratio};
use crate::figures::Spread;
use crate::peer::Engine;
use crate::row::Row;
use comfy_table::{CellAlignment, Table, TableStyle};

/// All rows.
pub fn tables(report: &Report) -> String {
    report.rows().into_iter().map(|row| format!("{}\n\n", table(report, row))).collect()
}

fn table(report: &Report, row: Row) -> Table {
    let engines = report.engines();
    let has_ratio = |place: usize| place > 0 && engines.get(place) != Some(&Engine::Null);
    let mut head = vec![row.title().to_owned()];
    for (place, engine) in engines.iter().enumerate() {
        head.push(engine.name().to_owned());
        if let Some(first) = engines.first().filter(|_| has_ratio(place)) {
            head.push(format!("{first}/{engine}"));
        }
    }
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(head);
    for (metric, spreads) in report.metrics(row) {
        let name = match metric.key {
            "rate" | "rate-settled" => metric.name.replace("1/s", row.counts()),
            "p50" => metric.name.replace("p50", &format!("{}: p50", row.call())),
            _ => metric.name.to_owned(),
        };
        let mut cells = vec![name];
        let first = spreads.first().copied().flatten();
        for (place, spread) in spreads.into_iter().enumerate() {
            cells.push(spread.map_or_else(String::new, shown));
            if has_ratio(place) {
                cells.push(ratio(first, spread).map_or_else(String::new, times));
            }
        }
        table.add_row(cells);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The median, and from where to where runs went when that can be seen.
fn shown(spread: Spread) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(short);
    if least == most { median } else { format!("{median} [{least}..{most}]") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::figures;

    fn report() -> Report {
        let mut report = Report::default();
        for seconds in [0.5, 0.4, 1.0] {
            report.add(figures(Engine::Rocksdb, Row::LoadRandom, 2.0 * seconds));
            report.add(figures(Engine::Fjall, Row::LoadRandom, seconds));
            report.add(figures(Engine::Null, Row::LoadRandom, 0.1));
        }
        report
    }

    fn line<'a>(text: &'a str, with: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.contains(with)).unwrap();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn medians_stand_beside_their_ratios() {
        let text = tables(&report());
        assert_eq!(
            line(&text, "put, random"),
            ["put, random order, buffered", "fjall", "RocksDB", "fjall/RocksDB", "null"]
        );
        assert_eq!(
            line(&text, "rate, entries/s"),
            ["rate, entries/s", "2.00k [1.00k..2.50k]", "1.00k [500..1.25k]", "2.00x", "10.0k"]
        );
        assert_eq!(line(&text, "a put: p50"), ["a put: p50, us", "1.00", "1.00", "1.00x", "1.00"]);
    }

    #[test]
    fn what_a_row_has_not_is_not_told() {
        assert!(!tables(&report()).contains("read from disk"));
        assert_eq!(tables(&Report::default()), "");
    }
}
