#![no_main]

hullwright_fuzz::target!("gpt_table");
