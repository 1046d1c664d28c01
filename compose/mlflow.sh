#!/bin/sh
# Starts MLflow's server. Its password is in no command line and in no environment: libpq reads it from a file.
set -eu
umask 077

export PGPASSFILE=/tmp/pgpass
store=postgresql+psycopg://mlflow@db:5432/mlflow
printf 'db:5432:mlflow:mlflow:%s\n' "$(sed 's/[\\:]/\\&/g' /run/secrets/mlflow_database_password)" >$PGPASSFILE

# The server's own check is guarded on this machine only, and refuses tables of an older MLflow.
mlflow db upgrade "$store"
# Two workers: a model that is being uploaded holds up nobody who browses.
exec mlflow server --backend-store-uri "$store" --serve-artifacts --artifacts-destination /var/lib/mlflow/artifacts \
    --host 0.0.0.0 --port 5000 --workers 2
