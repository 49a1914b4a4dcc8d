//! A start that is told to stop: in recovery, behind it, and while name servers are waited for. The next start finds
//! everything each time.

use std::{future::poll_fn, io::Write, net::TcpListener, pin::pin, sync::mpsc, task::Poll};

use gantry_disk::faulty::FaultyDisk;

use super::*;

const ABORT: &str = "/store/abort";

/// A store with messages, as a broker that was killed left it.
async fn left_behind() -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    let broker = start(&disk, config(Path::new("/")), &StopOrder::default()).await;
    let broker = broker.unwrap();
    let client = Client::connect(&broker).await;
    for tag in ["a", "b", "c"] {
        assert_eq!(client.send(&format!("i=TAGS:{tag}")).await.code, 0);
    }
    let left = disk.fork();
    left.kill();
    broker.stop().await.unwrap();
    left
}

async fn start(disk: &FaultyDisk, config: BrokerConfig, order: &StopOrder) -> Option<Broker> {
    let started = Broker::start_on(Arc::new(disk.clone()), config, Sockets::none(), order).await;
    started.unwrap()
}

/// The next start, which nobody stops.
async fn finds_everything(disk: &FaultyDisk) {
    let broker = start(disk, config(Path::new("/")), &StopOrder::default()).await;
    let broker = broker.unwrap();
    let client = Client::connect(&broker).await;
    let pulled = client.pull("").await;
    assert_eq!((pulled.code, number(&pulled, "maxOffset")), (0, 3));
    assert_eq!(records(&pulled).len(), 3);
    broker.stop().await.unwrap();
    assert!(!disk.files().contains(&ABORT.into()));
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
    // Threads that wait for name servers are left alone, as the program does.
    runtime.shutdown_background();
}

#[test]
fn a_recovery_that_is_told_to_stop_leaves_the_store_to_the_next_start() {
    run(async {
        let disk = left_behind().await;
        let content = || {
            disk.files()
                .into_iter()
                .map(|file| (disk.content(&file), file))
        };
        let before: Vec<_> = content().collect();
        let order = StopOrder::default();
        let mut starting = pin!(start(&disk, config(Path::new("/")), &order));
        // Up to its first wait: recovery was not begun.
        poll_fn(|cx| match starting.as_mut().poll(cx) {
            Poll::Pending => Poll::Ready(()),
            Poll::Ready(_) => panic!("it has waited for nothing"),
        })
        .await;
        order.give();
        assert!(starting.await.is_none());
        assert!(content().eq(before), "{:?}", disk.files());
        assert!(disk.files().contains(&ABORT.into()));
        finds_everything(&disk).await;
    });
}

/// The mark that the store is in use comes when recovery is over: whatever the start has come to then, the store is closed.
#[test]
fn a_stop_right_behind_recovery_closes_the_store() {
    run(async {
        let disk = left_behind().await;
        disk.take(Path::new(ABORT));
        let order = StopOrder::default();
        let watched = async {
            while !disk.files().contains(&ABORT.into()) {
                tokio::task::yield_now().await;
            }
            order.give();
        };
        let (started, ()) = tokio::join!(start(&disk, config(Path::new("/")), &order), watched);
        if let Some(broker) = started {
            broker.stop().await.unwrap();
        }
        assert!(!disk.files().contains(&ABORT.into()));
        finds_everything(&disk).await;
    });
}

/// It may be in the routes by then, so it takes its leave.
#[test]
fn a_stop_while_name_servers_are_waited_for_is_like_any_other() {
    run(async {
        let disk = left_behind().await;
        let name_server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = config(Path::new("/"));
        config.namesrv_addr = Some(name_server.local_addr().unwrap().to_string());
        let (told, registers) = tokio::sync::oneshot::channel();
        let (_over, is_over) = mpsc::channel::<()>();
        // It hears the registration, and says nothing until the test is over.
        std::thread::spawn(move || {
            let (mut held, mut told) = (Vec::new(), Some(told));
            while told.is_some() {
                let (mut stream, _) = name_server.accept().unwrap();
                let mut begin = [0; 512];
                let read = stream.read(&mut begin).unwrap();
                if String::from_utf8_lossy(&begin[..read]).contains("\"code\":103") {
                    told.take().unwrap().send(()).unwrap();
                }
                held.push(stream);
            }
            let _ = is_over.recv();
            held.iter_mut().try_for_each(Write::flush).unwrap();
        });
        let order = StopOrder::default();
        let asked = async {
            registers.await.unwrap();
            order.give();
        };
        let (started, ()) = tokio::join!(start(&disk, config, &order), asked);
        started.unwrap().stop().await.unwrap();
        assert!(!disk.files().contains(&ABORT.into()));
        finds_everything(&disk).await;
    });
}
