//! The program: see `cli`.

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
