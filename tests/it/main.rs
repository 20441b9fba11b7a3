//! The promises, tested from outside. The list of modules is the table of contents.

mod tidy;
