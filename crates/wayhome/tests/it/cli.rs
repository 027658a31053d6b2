//! The command line as a person meets it: help, output, errors, colours, pipes, completions and
//! manual pages, in a home of its own and in 80 columns.

mod colour;
mod completions;
mod documents;
mod errors;
mod help;
mod interrupted;
mod journal;
mod loudness;
mod man;
mod output;
mod pipes;
mod sandbox;
mod secrets;
