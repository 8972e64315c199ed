//! Connects and prints what comes: `cargo run -p anser-sdk --example listen -- tcp://localhost:3101 live://1000`.

#![expect(clippy::print_stdout, reason = "an example that prints")]

use anser_sdk::{Address, Client, Config, Event, Login};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: Address = arguments.next().unwrap_or("tcp://localhost:3101".to_owned()).parse()?;
    let room = arguments.next().unwrap_or_default();

    let login = Login::new().room(room).accepts([1000, 1001]).dropped();
    let (_client, mut events) = Client::connect(Config::new([address], login)).await?;
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { address } => println!("connected to {address}"),
            Event::Push { op, body } => println!("{op}: {}", String::from_utf8_lossy(&body)),
            Event::Dropped(count) => println!("{count} pushes were lost: printing is too slow"),
            Event::Behind => println!("the server waits for a pull, which this example does not do"),
            Event::Draining(after) => println!("the server goes away; back in {after:?}"),
            Event::Refused { error, body } => println!("{}: {error}", String::from_utf8_lossy(&body)),
            Event::Disconnected { cause, retry_in: Some(delay) } => println!("{cause}; again in {delay:?}"),
            Event::Disconnected { cause, retry_in: None } => println!("{cause}; giving up"),
        }
    }
    Ok(())
}
