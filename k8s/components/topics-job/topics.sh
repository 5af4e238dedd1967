# PARTITIONS, REPLICATION and the servers come from values.env. With security, the Secret
# kafka-reranker-topics has the properties of the client that may create topics.
CLIENT_PROPERTIES=${CLIENT_PROPERTIES:-/etc/kafka-client/client.properties}
[ -e "$CLIENT_PROPERTIES" ] || CLIENT_PROPERTIES=
# One replica may be away, where there are three.
if [ "$REPLICATION" -gt 2 ]; then in_sync=2; else in_sync=1; fi
create() {
  kafka-topics.sh --bootstrap-server "$RERANKER_KAFKA__BOOTSTRAP_SERVERS" \
    ${CLIENT_PROPERTIES:+--command-config "$CLIENT_PROPERTIES"} \
    --create --if-not-exists --topic "$1" \
    --partitions "$PARTITIONS" --replication-factor "$REPLICATION" \
    --config "retention.ms=$2" --config "min.insync.replicas=$in_sync" \
    --config max.message.bytes=9437184
}
create rerank.queries 86400000
create rerank.results 86400000
create rerank.feedback 7776000000
create rerank.dead-letters 1209600000
