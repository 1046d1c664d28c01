-- Run once, when the volume is new: a user and a database of its own for each program.
-- psql reads the passwords here, so that they are in no command line and in no environment.
\set trainshed_password `cat /run/secrets/trainshed_database_password`
\set mlflow_password `cat /run/secrets/mlflow_database_password`

CREATE ROLE trainshed LOGIN PASSWORD :'trainshed_password';
CREATE DATABASE trainshed OWNER trainshed;
REVOKE ALL ON DATABASE trainshed FROM PUBLIC;

CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow;
REVOKE ALL ON DATABASE mlflow FROM PUBLIC;
