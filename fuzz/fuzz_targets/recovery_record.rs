#![no_main]

hullwright_fuzz::target!("recovery_record");
