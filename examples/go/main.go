// Obeys doorward's commands: the login pipeline's side, short.
//
//	go run . BROKERS TOPIC GROUP STORE
//
// STORE is a folder that stands for the pipeline's database. examples/login_pipeline.rs is
// the complete one: it also asks before a sign-in, and tells doorward of a new password.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

const schema = 1

// A message of auth.commands. Fields that a later doorward adds are passed over.
type command struct {
	Schema   int      `json:"schema"`
	Seq      *int64   `json:"seq"`
	Command  string   `json:"command"`
	Account  string   `json:"account"`
	Case     string   `json:"case"`
	Scope    string   `json:"scope"`
	Since    string   `json:"since"`
	Until    string   `json:"until"`
	Sessions []string `json:"sessions"`
	Evidence []string `json:"evidence"`
}

// What the pipeline keeps of one account because of doorward.
type account struct {
	Seq         int64  `json:"seq"`
	Lock        *lock  `json:"lock"`
	NewPassword string `json:"new_password"` // the case that the next password change answers
}

// What every sign-in asks.
type lock struct {
	Scope string `json:"scope"`
	Since string `json:"since"`
	Until string `json:"until"`
}

// obey does what c asks for and says it; here nothing else happens.
func (a *account) obey(c command) []string {
	ids := strings.Join(c.Evidence, ", ")
	switch c.Command {
	case "lock_account":
		// A later lock of the account replaces this one.
		a.Lock = &lock{c.Scope, c.Since, c.Until}
		// `all`, and whatever a later version may call a scope.
		done := []string{"refuse every sign-in"}
		if c.Scope == "unfamiliar" && c.Since != "" {
			done[0] = "refuse sign-ins of devices unknown before " + c.Since
		}
		done = append(done, "void reset links")
		if len(c.Sessions) > 0 {
			done = append(done, "suspend sessions "+strings.Join(c.Sessions, ", "))
		}
		return done
	case "unlock_account":
		a.Lock = nil
		return []string{"lift the lock"}
	case "revoke_sessions":
		return []string{"end every session"}
	case "require_password_change":
		a.NewPassword = c.Case // send it back with `password_changed`
		return []string{"require a new password, case " + c.Case}
	case "rotate_api_keys":
		return []string{"replace the API keys"}
	case "hold_recovery":
		return []string{"hold recovery " + ids}
	case "release_recovery":
		return []string{"complete recovery " + ids}
	case "cancel_recovery":
		return []string{"end recovery " + ids}
	}
	log.Printf("the command %s is unknown here; update this program", c.Command)
	return nil
}

// handle obeys one message; its effects and its seq are one write of the store.
func handle(store string, record *kgo.Record) error {
	place := fmt.Sprintf("%s:%d:%d", record.Topic, record.Partition, record.Offset)
	var c command
	err := json.Unmarshal(record.Value, &c)
	if c.Schema > schema {
		return fmt.Errorf("%s has schema %d: update this program", place, c.Schema)
	}
	if err != nil || c.Seq == nil || c.Account == "" {
		log.Printf("%s is no command: %v", place, err)
		return nil
	}
	path := filepath.Join(store, hex.EncodeToString([]byte(c.Account))+".json")
	state := account{Seq: -1}
	if bytes, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(bytes, &state); err != nil {
			return fmt.Errorf("%s is damaged: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Kafka hands a command out again after a crash: below or equal is old news.
	if *c.Seq <= state.Seq {
		fmt.Printf("%s: seq %d is old news\n", c.Account, *c.Seq)
		return nil
	}
	state.Seq = *c.Seq
	for _, what := range state.obey(c) {
		fmt.Printf("%s: %s\n", c.Account, what)
	}
	bytes, err := json.Marshal(state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", bytes, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func run(brokers, topic, group, store string) error {
	if err := os.MkdirAll(store, 0o700); err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // others see locks that never happened
		kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	for {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			log.Printf("reading %s:%d: %v", topic, partition, err)
		})
		for _, record := range fetches.Records() {
			if err := handle(store, record); err != nil {
				return err
			}
			// Only now: a crash before it repeats the command, which seq makes harmless.
			if err := client.CommitRecords(ctx, record); err != nil {
				log.Printf("committing: %v", err)
			}
		}
	}
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: login-pipeline BROKERS TOPIC GROUP STORE")
	}
	log.Fatal(run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
}
