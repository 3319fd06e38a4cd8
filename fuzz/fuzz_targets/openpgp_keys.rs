#![no_main]

hullwright_fuzz::target!("openpgp_keys");
