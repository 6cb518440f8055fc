#!/bin/bash
# Runs packetdrill's TCP scripts against the stack, in virtual time, and compares what passes with
# the table in docs/conformance.md. Needs root: each script gets a network namespace of its own.
#
#   scripts/packetdrill.sh [options] PACKETDRILL SCRIPTS
#
# PACKETDRILL is the program, SCRIPTS a folder with .pkt files (gtests/net/tcp of its sources).
#   -k WORD    only the scripts whose path contains WORD
#   -l         against the kernel instead, in real time
#   -v         what packetdrill says of each that fails
#   -o FILE    the results as lines "path pass|FAIL" in FILE
#   -t         writes the results into the table (with -l: into the kernel's column); a reason
#              stays as long as its script fails
# Ends with 0 if every script passes that the table says passes (with -l: if packetdrill ran).
set -u

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }

word='' kernel='' verbose='' results='' write=''
while getopts 'k:lvto:' option; do
    case $option in
        k) word=$OPTARG ;;
        l) kernel=1 ;;
        v) verbose=1 ;;
        t) write=1 ;;
        o) results=$(realpath -m "$OPTARG") ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 2 ] || usage
packetdrill=$(realpath "$1") scripts=$(realpath "$2")
here=$(realpath "$(dirname "$0")/..")
table=$here/docs/conformance.md
library=${ONWIRE_PACKETDRILL:-}
for kind in release debug; do
    [ -n "$library" ] || { f=$here/target/$kind/libonwire_packetdrill.so; [ -e "$f" ] && library=$f; }
done
if [ -z "$kernel" ] && [ ! -e "$library" ]; then
    echo "no libonwire_packetdrill.so: cargo build -p onwire-packetdrill" >&2; exit 2
fi
library=$(realpath -m "${library:-none}")

# In a namespace of its own, with the link that scripts set a queueing discipline on.
run_one() {
    local script=$1 mtu
    cd "$(dirname "$script")" || exit 1
    local args=(--ip_version=ipv4 --local_ip=192.168.0.1 --gateway_ip=192.168.0.1
        --netmask_ip=255.255.0.0 --remote_ip=192.0.2.1 -D TFO_COOKIE=3021b9d889017eeb
        -D CODE=host_unreachable -D CMSG_LEVEL_IP=SOL_IP -D CMSG_TYPE_RECVERR=IP_RECVERR)
    if [ -n "$kernel" ]; then
        timeout 60 unshare -n bash -c 'ip link set lo up; exec "$@"' - \
            "$packetdrill" "${args[@]}" --tolerance_usecs=14000 "$script"
        return
    fi
    mtu=$(sed -n 's/^ *--mtu=\([0-9]*\).*/\1/p' "$script" | tail -1)
    # A namespace may choose only what its host allows; a file over the setting takes any name.
    timeout 60 unshare --net --mount --propagation private bash -c '
        mount -t tmpfs none /mnt && echo cubic > /mnt/congestion &&
            mount --bind /mnt/congestion /proc/sys/net/ipv4/tcp_congestion_control || exit 1
        # What nstat says of the kernel is of no use: the stack writes its own.
        printf "%s\n" "#!/bin/sh" "cat /mnt/counters 2>/dev/null; exit 0" > /mnt/nstat && chmod +x /mnt/nstat
        # What these set in the kernel the stack has, too: it is told by a mark.
        printf "%s\n" "#!/bin/sh" "[ \"\$1 \$2\" = \"tcp_metrics flush\" ] && : > /mnt/flush" \
            "exec $(command -v ip) \"\$@\"" > /mnt/ip
        printf "%s\n" "#!/bin/sh" "case \"\$*\" in *\" root fq\"*) : > /mnt/fq ;;" \
            "*\" root \"*) rm -f /mnt/fq ;; esac" "exec $(command -v tc) \"\$@\"" > /mnt/tc
        chmod +x /mnt/ip /mnt/tc
        export PATH=/mnt:$PATH ONWIRE_PACKETDRILL_NSTAT=/mnt/counters
        export ONWIRE_PACKETDRILL_FLUSH=/mnt/flush ONWIRE_PACKETDRILL_FQ=/mnt/fq
        ip link set lo up
        ip tuntap add tun0 mode tun
        ip link set tun0 up
        export LD_PRELOAD="$1"
        shift
        exec "$@"' - "$library" "$packetdrill" "${args[@]}" \
        --so_filename="$library" --so_flags="mtu=${mtu:-1500}" "$script"
}

# What the table says of a script: the word in its second column.
expected() { awk -F' *[|] *' -v s="\`$1\`" '$2 == s { print $3; exit }' "$table" 2>/dev/null; }

passed=0 failed=0 worse=0 better=0
if [ -z "$results" ] && [ -n "$write" ]; then
    results=$(mktemp) && trap 'rm -f "$results"' EXIT
fi
[ -n "$results" ] && : > "$results"
while read -r script; do
    name=${script#"$scripts"/}
    [[ $name == *"$word"* ]] || continue
    grep -q -- '--ip_version=ipv6' "$script" && continue
    if said=$(run_one "$script" 2>&1 < /dev/null); then result=pass; else result=FAIL; fi
    note='' want=$(expected "$name")
    if [ $result = pass ]; then
        passed=$((passed + 1))
        [ -z "$kernel" ] && [ "$want" = FAIL ] && { better=$((better + 1)); note=' (better than the table)'; }
    else
        failed=$((failed + 1))
        [ -z "$kernel" ] && [ "$want" = pass ] && { worse=$((worse + 1)); note=' (WORSE than the table)'; }
    fi
    echo "$result $name$note"
    [ -n "$results" ] && echo "$name $result" >> "$results"
    [ -n "$verbose" ] && [ $result = FAIL ] && tail -n 6 <<< "$said" | sed 's/^/      /'
done < <(find "$scripts" -name '*.pkt' | sort)

# The table with this run's results, and the sentence above it that counts them.
write_table() {
    awk -F' *[|] *' -v OFS=' | ' -v column="${kernel:+4}" '
        BEGIN { if (!column) column = 3 }
        NR == FNR { split($0, result, " "); now["`" result[1] "`"] = result[2]; next }
        $2 in now {
            $column = now[$2]
            if ($3 == "pass") $5 = ""
            else if ($5 == "") $5 = "to be explained"
            print "| " $2 " | " $3 " | " $4 " | " $5 " |"; next
        }
        { print }' "$results" "$table" > "$table.new" && mv "$table.new" "$table"
    local counts
    counts=$(awk -F' *[|] *' '
        $3 ~ /^(pass|FAIL)$/ { all++; n[$3 $4]++ }
        END { printf "Of %d scripts onwire passes %d, Linux %d; %d pass on both, %d on Linux alone, %d on onwire alone.",
            all, n["passpass"] + n["passFAIL"], n["passpass"] + n["FAILpass"],
            n["passpass"], n["FAILpass"], n["passFAIL"] }' "$table")
    sed -i "s/^Of [0-9]* scripts onwire passes.*/$counts/" "$table"
}
[ -n "$write" ] && write_table
echo "passed $passed, failed $failed; $worse worse and $better better than the table says"
[ $worse = 0 ] && [ $((passed + failed)) -gt 0 ]
