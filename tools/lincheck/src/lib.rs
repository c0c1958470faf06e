//! Judges recorded histories: is there one order of all operations that explains every answer?
