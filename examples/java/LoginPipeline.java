import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Obeys doorward's commands: the login pipeline's side, short.
 *
 * <pre>java -cp 'kafka-clients.jar:jackson-*.jar' LoginPipeline.java BROKERS TOPIC GROUP STORE</pre>
 *
 * STORE is a folder that stands for the pipeline's database. examples/login_pipeline.rs is the
 * complete one: it also asks before a sign-in, and tells doorward of a new password.
 */
public final class LoginPipeline {
    private static final int SCHEMA = 1;
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] args) throws IOException {
        if (args.length != 4) {
            System.err.println("usage: LoginPipeline BROKERS TOPIC GROUP STORE");
            System.exit(2);
        }
        Path store = Files.createDirectories(Path.of(args[3]));
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", args[0],
                "group.id", args[2],
                "isolation.level", "read_committed", // others see locks that never happened
                "enable.auto.commit", "false",
                "auto.offset.reset", "earliest",
                "key.deserializer", ByteArrayDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings)) {
            consumer.subscribe(List.of(args[1]));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    handle(store, record);
                    // Only now: a crash before it repeats the command, which seq makes harmless.
                    consumer.commitSync(Map.of(
                            new TopicPartition(record.topic(), record.partition()),
                            new OffsetAndMetadata(record.offset() + 1)));
                }
            }
        }
    }

    /** Obeys one message; its effects and its seq are one write of the store. */
    private static void handle(Path store, ConsumerRecord<byte[], byte[]> record)
            throws IOException {
        String place = record.topic() + ":" + record.partition() + ":" + record.offset();
        JsonNode command = parse(record.value());
        if (command.path("schema").asInt() > SCHEMA) {
            throw new IllegalStateException(
                    place + " has schema " + command.get("schema") + ": update this program");
        }
        if (!command.path("seq").isIntegralNumber() || !command.path("account").isTextual()) {
            System.err.println(place + " is no command");
            return;
        }
        String account = command.get("account").asText();
        String name = HexFormat.of().formatHex(account.getBytes(StandardCharsets.UTF_8));
        Path path = store.resolve(name + ".json");
        ObjectNode state = Files.exists(path)
                ? (ObjectNode) JSON.readTree(path.toFile())
                : JSON.createObjectNode();
        long seq = command.get("seq").asLong();
        // Kafka hands a command out again after a crash: below or equal is old news.
        if (seq <= state.path("seq").asLong(-1)) {
            System.out.println(account + ": seq " + seq + " is old news");
            return;
        }
        state.put("seq", seq);
        for (String what : obey(state, command)) {
            System.out.println(account + ": " + what);
        }
        Path written = store.resolve(name + ".new");
        Files.write(written, JSON.writeValueAsBytes(state));
        Files.move(written, path, StandardCopyOption.ATOMIC_MOVE);
    }

    private static JsonNode parse(byte[] value) {
        try {
            return JSON.readTree(value == null ? new byte[0] : value);
        } catch (IOException error) {
            return JSON.missingNode();
        }
    }

    /** What the command asks for. Here it is only said, and the lock kept. */
    private static List<String> obey(ObjectNode state, JsonNode command) {
        String ids = join(command.path("evidence"));
        switch (command.path("command").asText()) {
            case "lock_account":
                return lock(state, command);
            case "unlock_account":
                state.remove("lock");
                return List.of("lift the lock");
            case "revoke_sessions":
                return List.of("end every session");
            case "require_password_change":
                // Send it back with `password_changed`.
                state.set("new_password", command.get("case"));
                return List.of("require a new password, case " + command.get("case").asText());
            case "rotate_api_keys":
                return List.of("replace the API keys");
            case "hold_recovery":
                return List.of("hold recovery " + ids);
            case "release_recovery":
                return List.of("complete recovery " + ids);
            case "cancel_recovery":
                return List.of("end recovery " + ids);
            default:
                System.err.println("the command " + command.path("command")
                        + " is unknown here; update this program");
                return List.of();
        }
    }

    private static List<String> lock(ObjectNode state, JsonNode command) {
        // What every sign-in asks. A later lock of the account replaces this one.
        ObjectNode lock = state.putObject("lock");
        for (String field : List.of("scope", "since", "until")) {
            lock.set(field, command.get(field));
        }
        List<String> done = new ArrayList<>();
        boolean unfamiliar = command.path("scope").asText().equals("unfamiliar");
        if (unfamiliar && command.path("since").isTextual()) {
            done.add("refuse sign-ins of devices unknown before " + command.get("since").asText());
        } else { // `all`, and whatever a later version may call a scope
            done.add("refuse every sign-in");
        }
        done.add("void reset links");
        if (!command.path("sessions").isEmpty()) {
            done.add("suspend sessions " + join(command.get("sessions")));
        }
        return done;
    }

    private static String join(JsonNode texts) {
        List<String> all = new ArrayList<>();
        texts.forEach(text -> all.add(text.asText()));
        return String.join(", ", all);
    }
}
