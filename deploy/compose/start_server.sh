#!/bin/sh
# Starts a server of deploy/compose/sentinel.yml, with the configuration that its volume holds.
#
#   start_server.sh primary
#   start_server.sh replica ADDRESS        ADDRESS: of the primary to begin with
#   start_server.sh sentinel ADDRESS
#
# The configuration is written at the first start alone. After that it is the servers' own: sentinels write into it
# who is primary, and after a restart of everything a role from here would have the old primary, with what it knew
# when it died, overwrite what the new one knows.
set -eu
role=$1
file=/data/$role.conf

if [ "$role" = sentinel ]; then
  port=26379
  settings="dir /data
sentinel monitor barque $2 6379 2
sentinel down-after-milliseconds barque 5000
sentinel failover-timeout barque 30000
sentinel parallel-syncs barque 1"
else
  port=6379
  # A primary that no replica follows takes no writes: they would be gone when it finds that it was replaced.
  settings="dir /data
appendonly yes
appendfsync everysec
save \"\"
maxmemory-policy noeviction
min-replicas-to-write 1
min-replicas-max-lag 10"
  if [ "$role" = replica ]; then
    settings="$settings
replicaof $2 6379"
  fi
fi
# As a whole or not at all: half a file would be taken for the whole one at the next start.
if [ ! -s "$file" ]; then
  printf 'port %s\nprotected-mode no\n%s\n' "$port" "$settings" >"$file.new"
  mv "$file.new" "$file"
fi

set -- valkey-server "$file"
if [ "$role" = sentinel ]; then set -- "$@" --sentinel; fi
# The image's entrypoint, where there is one, gives /data to the user of the server and becomes that user.
if command -v docker-entrypoint.sh >/dev/null; then exec docker-entrypoint.sh "$@"; fi
exec "$@"
