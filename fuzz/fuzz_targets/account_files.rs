#![no_main]

hullwright_fuzz::target!("account_files");
