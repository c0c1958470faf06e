//! Rows of what was asked and what was got, as a table and as JSON lines.

use anyhow::Context;
use comfy_table::{CellAlignment, Table, TableStyle};
use serde_json::{Map, Value, json};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// What is asked of a figure.
#[derive(Clone, Copy)]
pub enum Asked {
    /// Nothing: it is there to explain the others.
    Nothing,
    AtLeast(f64),
    AtMost(f64),
}

impl Asked {
    fn is_met(self, got: f64) -> Option<bool> {
        match self {
            Asked::Nothing => None,
            Asked::AtLeast(least) => Some(got >= least),
            Asked::AtMost(most) => Some(got <= most),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Nothing => Ok(()),
            Asked::AtLeast(least) => write!(f, "≥ {}", shown(*least)),
            Asked::AtMost(most) => write!(f, "≤ {}", shown(*most)),
        }
    }
}

struct Row {
    name: String,
    asked: Asked,
    got: f64,
    unit: &'static str,
}

/// The rows of the scenario that runs, and where all of them are kept.
pub struct Report {
    json: Option<File>,
    host: Map<String, Value>,
    scenario: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Appends to `json` when it is given; `host` goes into each line.
    pub fn new(json: Option<&Path>, host: Map<String, Value>) -> anyhow::Result<Report> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.with_context(|| format!("opening {}", path.display()))
        };
        let json = json.map(open).transpose()?;
        Ok(Report { json, host, scenario: "", rows: Vec::new(), notes: Vec::new() })
    }

    /// The next rows are of this scenario.
    pub fn begin(&mut self, scenario: &'static str) {
        assert!(self.rows.is_empty(), "what {} told was not printed", self.scenario);
        self.scenario = scenario;
    }

    /// Adds a figure.
    pub fn row(&mut self, name: impl Into<String>, asked: Asked, got: f64, unit: &'static str) {
        assert!(got.is_finite(), "a figure is a number");
        self.rows.push(Row { name: name.into(), asked, got, unit });
    }

    /// Adds words below the table: how something was counted, or why it was not.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints what was added since the last time, and appends it to the file.
    pub fn print(&mut self) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(TableStyle::new()).set_header([self.scenario, "asked", "got", "unit", ""]);
        for row in &self.rows {
            let met = row.asked.is_met(row.got).map_or("", |met| if met { "met" } else { "MISSED" });
            table.add_row([&row.name, &row.asked.to_string(), &shown(row.got), row.unit, met]);
        }
        table.column_iter_mut().skip(1).take(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        println!("{table}");
        self.notes.drain(..).for_each(|note| println!("  {note}"));
        for row in std::mem::take(&mut self.rows) {
            let mut line = json!({ "scenario": self.scenario, "row": row.name, "got": row.got, "unit": row.unit });
            match row.asked {
                Asked::Nothing => {}
                Asked::AtLeast(least) => line["asked"] = json!({ "at_least": least }),
                Asked::AtMost(most) => line["asked"] = json!({ "at_most": most }),
            }
            line.as_object_mut().expect("it was made as one").extend(self.host.clone());
            if let Some(file) = &mut self.json {
                writeln!(file, "{line}").context("writing the JSON lines")?;
            }
        }
        Ok(())
    }
}

/// Large numbers whole and with commas, small ones with three digits that count.
fn shown(number: f64) -> String {
    if number.abs() < 100.0 {
        let places = if number == 0.0 { 0 } else { 2 - number.abs().log10().floor() as i32 };
        let digits = places.max(0) as usize;
        return format!("{number:.digits$}");
    }
    let mut digits = format!("{number:.0}");
    let mut at = digits.len();
    while at > 3 + usize::from(number < 0.0) {
        at -= 3;
        digits.insert(at, ',');
    }
    digits
}
