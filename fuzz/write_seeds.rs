//! `write_seeds CORPUS TARGET [PACKAGE…]`: inputs to begin with, into the directory CORPUS.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use hullwright_fuzz::seeds;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [corpus, target, packages @ ..] = &arguments[..] else {
        eprintln!("write_seeds CORPUS TARGET [PACKAGE…]");
        return ExitCode::FAILURE;
    };
    match write(Path::new(corpus), target, packages) {
        Ok(count) => {
            println!("{count} inputs for {target}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{corpus}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(corpus: &Path, target: &str, packages: &[String]) -> io::Result<usize> {
    let mut inputs = seeds::of(target);
    for package in packages {
        let all = seeds::of_package(&fs::read(package)?).into_iter();
        inputs.extend(all.filter(|(name, _)| *name == target).map(|(_, bytes)| bytes));
    }
    fs::create_dir_all(corpus)?;
    for (number, bytes) in inputs.iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number:04}")), bytes)?;
    }
    Ok(inputs.len())
}
