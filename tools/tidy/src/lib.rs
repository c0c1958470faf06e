//! The project's own style test.
