# PARTITIONS, REPLICATION and the servers come from values.env. With security, CLIENT_PROPERTIES
# names a file for --command-config.
create() {
  kafka-topics.sh --bootstrap-server "$RERANKER_KAFKA__BOOTSTRAP_SERVERS" \
    ${CLIENT_PROPERTIES:+--command-config "$CLIENT_PROPERTIES"} \
    --create --if-not-exists --topic "$1" \
    --partitions "$PARTITIONS" --replication-factor "$REPLICATION" \
    --config "retention.ms=$2" --config max.message.bytes=9437184
}
create rerank.queries 86400000
create rerank.results 86400000
create rerank.feedback 7776000000
create rerank.dead-letters 1209600000
