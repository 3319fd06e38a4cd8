#![no_main]

hullwright_fuzz::target!("event_log");
