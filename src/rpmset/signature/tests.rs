//! Signatures made here over packages made here; what real packages come to is in `real`.

mod fixture;
mod keys;
mod packages;
mod real;
