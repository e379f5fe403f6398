"""Obeys doorward's commands: the login pipeline's side, short.

    pip install -r requirements.txt
    python login_pipeline.py BROKERS TOPIC GROUP STORE

STORE is a SQLite file that stands for the pipeline's database. `examples/login_pipeline.rs`
is the complete one: it also asks before a sign-in, and tells doorward of a new password.
"""

import json
import sqlite3
import sys

from confluent_kafka import Consumer

SCHEMA = 1


def handle(db, message):
    place = f"{message.topic()}:{message.partition()}:{message.offset()}"
    try:
        command = json.loads(message.value() or b"")
        if command["schema"] > SCHEMA:
            sys.exit(f"{place} has schema {command['schema']}: update this program")
        obey(db, command)
    except (ValueError, KeyError, TypeError) as error:
        print(f"{place} is no command: {error!r}", file=sys.stderr)


def obey(db, command):
    """Obeys one command; its effects and its `seq` are one transaction of the database."""
    account, seq = command["account"], command["seq"]
    with db:
        newest = db.execute("SELECT seq FROM account WHERE id = ?", [account]).fetchone()
        # Kafka hands a command out again after a crash: below or equal is old news.
        if newest and seq <= newest[0]:
            print(f"{account}: seq {seq} is old news", flush=True)
            return
        db.execute(
            "INSERT INTO account (id, seq) VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET seq = excluded.seq",
            [account, seq],
        )
        for what in effects(db, command):
            print(f"{account}: {what}", flush=True)


def effects(db, command):
    """What the command asks for. Here it is only said, and the lock kept."""
    name, account = command["command"], command["account"]
    ids = ", ".join(command.get("evidence", []))
    if name == "lock_account":
        scope, since = command.get("scope", "all"), command.get("since")
        # The lock's columns are what every sign-in asks. A later lock replaces this one.
        db.execute(
            "UPDATE account SET lock = ?, since = ?, until = ? WHERE id = ?",
            [scope, since, command.get("until"), account],
        )
        if scope == "unfamiliar" and since:
            yield f"refuse sign-ins of devices unknown before {since}"
        else:  # `all`, and whatever a later version may call a scope
            yield "refuse every sign-in"
        yield "void reset links"
        if command.get("sessions"):
            yield f"suspend sessions {', '.join(command['sessions'])}"
    elif name == "unlock_account":
        db.execute("UPDATE account SET lock = NULL WHERE id = ?", [account])
        yield "lift the lock"
    elif name == "revoke_sessions":
        yield "end every session"
    elif name == "require_password_change":
        # Send the case back with `password_changed`.
        db.execute("UPDATE account SET new_password = ? WHERE id = ?", [command["case"], account])
        yield f"require a new password, case {command['case']}"
    elif name == "rotate_api_keys":
        yield "replace the API keys"
    elif name == "hold_recovery":
        yield f"hold recovery {ids}"
    elif name == "release_recovery":
        yield f"complete recovery {ids}"
    elif name == "cancel_recovery":
        yield f"end recovery {ids}"
    else:
        print(f"the command {name} is unknown here; update this program", file=sys.stderr)


def main(brokers, topic, group, store):
    db = sqlite3.connect(store)
    db.execute(
        "CREATE TABLE IF NOT EXISTS account"
        " (id TEXT PRIMARY KEY, seq INTEGER, lock TEXT, since TEXT, until TEXT, new_password TEXT)"
    )
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "isolation.level": "read_committed",  # others see locks that never happened
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            handle(db, message)
            # Only now: a crash before it repeats the command, which `seq` makes harmless.
            consumer.commit(message, asynchronous=False)
    finally:
        consumer.close()  # so that the group does not wait for us


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
