//! The project's own tree obeys its rules.

use std::path::Path;

use tidy::{Figures, Tree};

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tree = Tree::read(&root).expect("the source tree can be read");
    assert!(tree.rust().count() > 10, "this is not the source tree: {}", root.display());
    let findings = tidy::check(&tree);
    print!("{}", Figures::of(&tree));
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} broken rules:\n{}", told.len(), told.join("\n"));
}
