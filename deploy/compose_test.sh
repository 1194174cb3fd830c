#!/usr/bin/env bash
# Runs the image and docker-compose.yml for real: builds, starts a server and several workers, drains
# jobs across all of them, checks what survives a killed server, that a worker which hangs is found, and
# that SIGTERM ends a worker in order.
#
#   deploy/compose_test.sh
#
# Needs a Docker engine (DOCKER_HOST is honoured). From the environment:
#   COMPOSE      the command to test, such as "docker-compose"; default: "docker compose" where it
#                exists, else "docker-compose"
#   BUILD_ARGS   more words for `docker build`, such as "--network host --build-arg PIP_INDEX_URL"
#   SKIP_BUILD=1 takes the image BARQUE_IMAGE as it is
#   WORKERS      how many (3)        JOBS  how many (600)
# Leaves no container, network or volume of its own; the image stays, for the next build to be quick.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

workers=${WORKERS:-3}
jobs=${JOBS:-600}
grace=10
export BARQUE_IMAGE=${BARQUE_IMAGE:-barque:compose-test}
# Fewer at once than there are jobs for one worker, so that all of them get a share.
export BARQUE_CONCURRENCY=10 BARQUE_SHUTDOWN_GRACE=$grace STOP_GRACE_PERIOD=30s
export DEMO_JOBS=$jobs DEMO_WORKERS=$workers
if [ -z "${COMPOSE:-}" ]; then
  if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"; else COMPOSE="docker-compose"; fi
fi
# A developer's .env must not decide what is tested.
settings=$(mktemp)
read -r -a compose <<<"$COMPOSE"
compose+=(--env-file "$settings" --project-name "barquetest$$")

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  "${compose[@]}" logs --tail 40 >&2 || true
  exit 1
}
clean_up() {
  "${compose[@]}" --profile demo --profile dashboard down --volumes --remove-orphans --timeout 1 >/dev/null 2>&1 || true
  rm -f "$settings"
}
trap clean_up EXIT

containers() { # containers SERVICE: its container ids, also of stopped ones, one a line
  docker ps --all --quiet \
    --filter "label=com.docker.compose.project=barquetest$$" \
    --filter "label=com.docker.compose.service=$1" \
    --filter "label=com.docker.compose.oneoff=False"
}
field() { docker inspect --format "$1" "$2"; }

wait_healthy() { # wait_healthy SERVICE COUNT
  local id healthy
  for _ in $(seq 120); do
    healthy=0
    for id in $(containers "$1"); do
      [ "$(field '{{.State.Health.Status}}' "$id")" = healthy ] && healthy=$((healthy + 1))
    done
    [ "$healthy" -ge "$2" ] && return
    sleep 1
  done
  fail "$healthy of $2 containers of $1 became healthy"
}

run_demo() { "${compose[@]}" --profile demo run --rm demo </dev/null; }

say "$("${compose[@]}" version | head -n 1), engine $(docker version --format '{{.Server.Version}}')"
"${compose[@]}" config --quiet

if [ "${SKIP_BUILD:-0}" != 1 ]; then
  say "building $BARQUE_IMAGE"
  read -r -a build_args <<<"${BUILD_ARGS:-}"
  docker build --tag "$BARQUE_IMAGE" ${build_args[@]+"${build_args[@]}"} .
fi

say "what the image promises"
[ "$(field '{{.Config.User}}' "$BARQUE_IMAGE")" = 10001:10001 ] || fail "the image does not run as 10001"
for word in pip setuptools; do
  docker run --rm "$BARQUE_IMAGE" python -c "import $word" 2>/dev/null &&
    fail "the worker's environment holds $word"
done
docker run --rm "$BARQUE_IMAGE" sh -c 'command -v cc gcc make' && fail "the image holds build tools"

say "$workers workers and a server"
"${compose[@]}" up --detach --no-build --scale worker="$workers"
wait_healthy redis 1
wait_healthy worker "$workers"

say "$jobs jobs across $workers workers"
run_demo || fail "the demo did not end well"

say "the dashboard starts with a credential, and shows nothing without it"
export BARQUE_DASHBOARD_PASSWORD=compose-test-password DASHBOARD_ADDRESS=127.0.0.1:0
"${compose[@]}" --profile dashboard up --detach --no-build dashboard
wait_healthy dashboard 1
asked=$(docker exec "$(containers dashboard)" python -c '
import base64, urllib.error, urllib.request
page = urllib.request.Request("http://127.0.0.1:9180/")
try:
    urllib.request.urlopen(page)
except urllib.error.HTTPError as refused:
    print(refused.code, end=" ")
page.add_header("Authorization", "Basic " + base64.b64encode(b"barque:compose-test-password").decode())
print(urllib.request.urlopen(page).status)')
[ "$asked" = "401 200" ] || fail "the dashboard answers $asked instead of 401 without, 200 with the password"

say "the server killed and started again: what was acknowledged is still there"
redis=$(containers redis)
docker exec "$redis" valkey-cli set barque:compose-test kept >/dev/null
# appendfsync everysec: two seconds later it is on the disk.
sleep 2
docker kill --signal KILL "$redis" >/dev/null
docker start "$redis" >/dev/null
wait_healthy redis 1
[ "$(docker exec "$redis" valkey-cli get barque:compose-test)" = kept ] || fail "a killed server forgot a key"
docker exec "$redis" valkey-cli del barque:compose-test >/dev/null
DEMO_WORKERS=1 run_demo || fail "the workers did not come back after the server did"

say "the health check tells a worker that hangs from its neighbours that do not"
mapfile -t ids < <(containers worker)
hung=${ids[0]}
own_health() { docker exec "$1" barque health >/dev/null 2>&1; }
docker kill --signal STOP "$hung" >/dev/null
for _ in $(seq 30); do own_health "$hung" || break; sleep 1; done
if own_health "$hung"; then fail "a stopped worker still counts as healthy"; fi
for id in "${ids[@]:1}"; do own_health "$id" || fail "worker $id is not healthy beside a hung one"; done
docker kill --signal CONT "$hung" >/dev/null
for _ in $(seq 30); do own_health "$hung" && break; sleep 1; done
own_health "$hung" || fail "a worker that goes on does not count as healthy again"

say "SIGTERM reaches every worker, and each ends by itself within the grace period"
[ "${#ids[@]}" -eq "$workers" ] || fail "${#ids[@]} worker containers instead of $workers"
before=$SECONDS
"${compose[@]}" stop worker
took=$((SECONDS - before))
for id in "${ids[@]}"; do
  code=$(field '{{.State.ExitCode}}' "$id")
  # 137 is Docker's own SIGKILL, which comes only after the grace period.
  [ "$code" -eq 0 ] || fail "worker $id ended with $code"
  [ "$(field '{{.State.OOMKilled}}' "$id")" = false ] || fail "worker $id ran out of memory"
done
say "stopped in $took s, all with exit code 0"
printf 'PASSED: %s workers, %s jobs\n' "$workers" "$jobs"
