-- Locks one package in twenty, in a transaction that is prepared: it holds
-- its locks without a session, until COMMIT PREPARED.
INSERT INTO package_lines (package) SELECT DISTINCT package FROM history;
BEGIN;
SELECT FROM package_lines WHERE hashtext(package) % 20 = 0 FOR UPDATE \g /dev/null
PREPARE TRANSACTION 'audit';
