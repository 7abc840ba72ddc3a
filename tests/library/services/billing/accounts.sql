-- Who may do what in the database of `billing`. Run once, as postgres; `scram` is what the verifier's password is checked
-- with. The operator ends sessions, and alters roles that are no superusers: before PostgreSQL 16 there is no less.
CREATE DATABASE billing STRATEGY FILE_COPY;
\connect billing
CREATE ROLE billing_app LOGIN;
CREATE ROLE billing_reports LOGIN;
CREATE ROLE reader LOGIN IN ROLE pg_read_all_stats;
CREATE ROLE verifier LOGIN PASSWORD :'scram' IN ROLE pg_read_all_stats;
CREATE ROLE operator LOGIN CREATEROLE IN ROLE pg_read_all_stats, pg_signal_backend;
CREATE TABLE invoices (id int PRIMARY KEY, cents int NOT NULL);
INSERT INTO invoices SELECT n, 100 * n FROM generate_series(1, 100) AS n;
GRANT SELECT ON invoices TO billing_app, billing_reports;
