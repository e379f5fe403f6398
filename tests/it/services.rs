//! The harness's own promises: what the other tests lean on really is there.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::{PATIENCE, kafka};

#[test]
fn kafka_takes_messages_and_gives_them_back_in_order() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = kafka.unique("round-trip");
    kafka.create_topic(&topic, 3, &[("message.timestamp.type", "LogAppendTime")]);

    kafka.produce(&topic, [("ann", "1"), ("bob", "2"), ("ann", "3")]);
    kafka.produce_raw(&topic, Some(2), None, Some(b"no key"));

    let records = kafka.read_committed(&topic);
    let of_ann: Vec<_> = records.iter().filter(|r| r.key_text() == "ann").collect();
    assert_eq!(
        of_ann
            .iter()
            .map(|r| r.payload.as_deref())
            .collect::<Vec<_>>(),
        [Some(b"1".as_slice()), Some(b"3")]
    );
    assert_eq!(of_ann[0].partition, of_ann[1].partition);
    let keyless: Vec<_> = records.iter().filter(|r| r.key.is_none()).collect();
    assert_eq!(keyless.len(), 1);
    assert_eq!(keyless[0].partition, 2);
    assert_eq!(records.len(), 4);
}

#[test]
fn a_committed_reader_sees_whole_transactions_and_never_an_aborted_one() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = kafka.unique("transactions");
    kafka.create_topic(&topic, 1, &[]);
    let producer: BaseProducer = kafka
        .client()
        .set("transactional.id", kafka.unique("transactional"))
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    let write = |payload: &str| {
        producer
            .send(BaseRecord::<str, str>::to(&topic).payload(payload))
            .expect("room in the queue");
        producer.flush(PATIENCE).expect("delivered");
    };

    producer.begin_transaction().expect("begun");
    write("aborted");
    producer.abort_transaction(PATIENCE).expect("aborted");
    producer.begin_transaction().expect("begun");
    write("first");
    write("second");
    // The reader starts while the transaction is open, and waits for it.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| kafka.read_committed(&topic));
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            !reader.is_finished(),
            "it did not wait for the open transaction"
        );
        producer.commit_transaction(PATIENCE).expect("committed");
        let seen: Vec<_> = reader
            .join()
            .expect("a reader")
            .into_iter()
            .map(|r| r.payload)
            .collect();
        assert_eq!(seen, [Some(b"first".to_vec()), Some(b"second".to_vec())]);
    });
}

#[test]
fn a_killed_broker_comes_back_with_what_it_had() {
    let Some(mut kafka) = kafka::start_cluster(1) else {
        return;
    };
    kafka.create_topic("kept", 1, &[]);
    kafka.produce("kept", [("ann", "before")]);
    kafka.kill_broker(0);
    kafka.restart_broker(0);
    kafka.produce("kept", [("ann", "after")]);
    let payloads: Vec<_> = kafka
        .read_committed("kept")
        .into_iter()
        .map(|r| r.payload)
        .collect();
    assert_eq!(
        payloads,
        [Some(b"before".to_vec()), Some(b"after".to_vec())]
    );
}
