//! The embedded database as its users see it.

mod db {
    mod basics;
    mod model;
    mod threads;
}
