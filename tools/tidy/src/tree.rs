//! The source tree, read once into memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::mask;

/// Folders that hold no source of ours.
const SKIPPED: [&str; 2] = ["target", ".git"];
/// Ends of names that are read; everything else is data.
const TEXT: [&str; 8] = ["rs", "toml", "md", "sh", "yml", "txt", "tsv", "lock"];

/// One text file.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Rust only: the same bytes with comments, strings and character literals blanked, so that what is left is code. Offsets
    /// and lines are those of `text`. Empty for other files.
    pub code: String,
}

impl File {
    /// A file from memory, as the canaries use it.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> File {
        let (path, text) = (path.into(), text.into());
        let code = if path.ends_with(".rs") { mask::code(&text) } else { String::new() };
        File { path, text, code }
    }

    /// Whether this is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Number of lines.
    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// The line, from 1, of the byte at `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text.as_bytes().iter().take(end).filter(|byte| **byte == b'\n').count() + 1
    }
}

/// All text files of the project.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Sorted by path.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the tree under `root`, without build output and git's own files.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder))? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = folder.join(&name);
                if entry.file_type()?.is_dir() {
                    if !SKIPPED.contains(&name.as_str()) {
                        folders.push(path);
                    }
                } else if is_text(&path) {
                    let text = fs::read_to_string(root.join(&path))?;
                    files.push(File::new(path.to_string_lossy(), text));
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { files })
    }

    /// A tree from memory, as the canaries use it.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut files: Vec<File> = files.iter().map(|(path, text)| File::new(*path, *text)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Tree { files }
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().and_then(|at| self.files.get(at))
    }
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| TEXT.contains(&extension))
        || path.parent().is_some_and(|folder| folder == Path::new(".ci"))
}
