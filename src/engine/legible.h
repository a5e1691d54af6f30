/*
 * legible.h
 *		Names that every client can be sent.
 */
#ifndef DBOPT_LEGIBLE_H
#define DBOPT_LEGIBLE_H

/*
 * The name itself where it is valid in the database's encoding, in one of
 * encoding SQL_ASCII where it is UTF-8; else a copy with \xHH for each byte
 * that is not ASCII.
 */
extern const char *dbopt_legible(const char *name);

#endif							/* DBOPT_LEGIBLE_H */
