#!/bin/sh
# Starts Valkey. The password is in no command line and in no environment: the file below holds its digest.
set -eu
umask 077

password=$(cat /run/secrets/broker_password)
if [ ${#password} -lt 16 ]; then
    echo "The broker's password has fewer than 16 characters; compose/make-secrets makes a good one." >&2
    exit 1
fi
digest=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)

# Messages carry nothing but "look in SQL". noeviction: a broker that drops keys silently loses queues.
# kombu asks for INFO, which counts as dangerous; nothing here needs KEYS, FLUSHALL or CONFIG.
# Nobody can log in as `default`, but Valkey 8 reads its append-only file with that user's rights: with none,
# it leaves out every transaction in it.
cat >/tmp/valkey.conf <<END
dir /data
appendonly yes
save ""
maxmemory 256mb
maxmemory-policy noeviction
protected-mode no
user default off resetpass ~* &* +@all
user trainshed on #$digest ~trainshed:* &trainshed:* +@all -@admin -@dangerous +info
END
exec valkey-server /tmp/valkey.conf
