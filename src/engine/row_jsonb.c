/*
 * row_jsonb.c
 *		Rows of a query as jsonb objects.
 *
 * Run by pool sessions.  to_jsonb() looks up the types of all columns for each
 * row and sorts its keys; here both are done once, and each row's values are
 * written behind a copy of the keys.  Values of common types are written as
 * they are; to_jsonb() makes what goes in for all others.
 *
 * The layout is that of utils/jsonb.h: a header, an entry for each key, an entry
 * for each value, in the order of the keys; then the keys, then the values.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "engine/row_jsonb.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

typedef struct Column Column;

/* Writes a value, with the bytes that align it.  Returns its entry's type. */
typedef uint32 (*ValueWriter) (const Column *column, Datum value,
							   StringInfo out);

struct Column
{
	int			place;			/* among the query's */
	const char *name;
	int			length;			/* of the name */
	Oid			type;			/* that a domain stands on */
	ValueWriter writer;
	FmgrInfo	function;		/* the type's output, or to_jsonb() */
};

struct DbOptRowJsonb
{
	int			count;			/* of the keys */
	Column	   *columns;		/* in their order */
	char	   *start;			/* of each row: all but the values */
	int			length;			/* of that */
	int			keys_length;
};

/* ---- values -------------------------------------------------------------- */

static void
check_size(Size size)
{
	if (size > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("total size of jsonb object elements exceeds the maximum of %u bytes",
						JENTRY_OFFLENMASK)));
}

static void
align(StringInfo out)
{
	static const char zeros[ALIGNOF_INT] = {0};
	int			missing = INTALIGN(out->len) - out->len;

	if (missing > 0)
		appendBinaryStringInfoNT(out, zeros, missing);
}

static uint32
write_string(StringInfo out, const char *string, Size length)
{
	check_size(length);
	appendBinaryStringInfoNT(out, string, length);
	return JENTRY_ISSTRING;
}

static uint32
write_numeric(StringInfo out, Numeric number)
{
	align(out);
	appendBinaryStringInfoNT(out, (char *) number, VARSIZE(number));
	return JENTRY_ISNUMERIC;
}

/* What is no number is a string. */
static uint32
write_number_text(StringInfo out, char *number)
{
	Datum		numeric;

	if (strpbrk(number, "nN") != NULL)
		return write_string(out, number, strlen(number));

	numeric = DirectFunctionCall3(numeric_in, CStringGetDatum(number),
								  ObjectIdGetDatum(InvalidOid),
								  Int32GetDatum(-1));
	return write_numeric(out, DatumGetNumeric(numeric));
}

static uint32
from_bool(const Column *column, Datum value, StringInfo out)
{
	return DatumGetBool(value) ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
}

static uint32
from_int2(const Column *column, Datum value, StringInfo out)
{
	return write_numeric(out, int64_to_numeric(DatumGetInt16(value)));
}

static uint32
from_int4(const Column *column, Datum value, StringInfo out)
{
	return write_numeric(out, int64_to_numeric(DatumGetInt32(value)));
}

static uint32
from_int8(const Column *column, Datum value, StringInfo out)
{
	return write_numeric(out, int64_to_numeric(DatumGetInt64(value)));
}

static uint32
from_number(const Column *column, Datum value, StringInfo out)
{
	return write_number_text(out,
							 OutputFunctionCall(unconstify(FmgrInfo *,
														   &column->function),
												value));
}

static uint32
from_numeric(const Column *column, Datum value, StringInfo out)
{
	Numeric		number = DatumGetNumeric(value);

	if (numeric_is_nan(number) || numeric_is_inf(number))
		return from_number(column, NumericGetDatum(number), out);
	return write_numeric(out, number);
}

static uint32
from_text(const Column *column, Datum value, StringInfo out)
{
	struct varlena *string = PG_DETOAST_DATUM_PACKED(value);

	return write_string(out, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

static uint32
from_time(const Column *column, Datum value, StringInfo out)
{
	char		buffer[MAXDATELEN + 1];

	JsonEncodeDateTime(buffer, value, column->type, NULL);
	return write_string(out, buffer, strlen(buffer));
}

static uint32
from_other(const Column *column, Datum value, StringInfo out)
{
	char	   *string = OutputFunctionCall(unconstify(FmgrInfo *,
													   &column->function),
											value);

	return write_string(out, string, strlen(string));
}

/* A scalar is kept as an array of one, which ends where it does. */
static uint32
from_jsonb(const Column *column, Datum value, StringInfo out)
{
	Jsonb	   *json = DatumGetJsonbP(value);
	JEntry		entry;
	uint32		type;
	char	   *data = (char *) &json->root;
	uint32		length = VARSIZE(json) - VARHDRSZ;

	if (!JB_ROOT_IS_SCALAR(json))
		type = JENTRY_ISCONTAINER;
	else
	{
		entry = json->root.children[0];
		type = entry & JENTRY_TYPEMASK;
		data = (char *) &json->root.children[1];
		length = JBE_OFFLENFLD(entry);
	}
	check_size(length);
	if (type == JENTRY_ISCONTAINER || type == JENTRY_ISNUMERIC)
		align(out);
	appendBinaryStringInfoNT(out, data, length);
	return type;
}

static uint32
from_any(const Column *column, Datum value, StringInfo out)
{
	return from_jsonb(column,
					  FunctionCall1(unconstify(FmgrInfo *, &column->function),
									value),
					  out);
}

/* ---- columns ------------------------------------------------------------- */

/*
 * to_jsonb() finds the type of its argument in the expression it is called
 * by, so it gets one.
 */
static void
prepare_to_jsonb(FmgrInfo *function, Oid type)
{
	Const	   *value = makeNullConst(type, -1, InvalidOid);

	fmgr_info(F_TO_JSONB, function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(value), InvalidOid,
											 InvalidOid,
											 COERCE_EXPLICIT_CALL),
					   function);
}

static void
prepare_output(FmgrInfo *function, Oid type)
{
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(type, &output, &varlena);
	fmgr_info(output, function);
}

/*
 * The types of PostgreSQL's own that to_jsonb() makes a string of by nothing
 * but their output functions.  Others may have casts to json.
 */
static bool
is_string(Oid type)
{
	return type < FirstNormalObjectId && type != JSONOID &&
		!OidIsValid(get_element_type(type)) && type != ANYARRAYOID &&
		type != ANYCOMPATIBLEARRAYOID && type != RECORDARRAYOID &&
		!type_is_rowtype(type);
}

static ValueWriter
find_writer(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return from_bool;
		case INT2OID:
			return from_int2;
		case INT4OID:
			return from_int4;
		case INT8OID:
			return from_int8;
		case NUMERICOID:
			return from_numeric;
		case FLOAT4OID:
		case FLOAT8OID:
			return from_number;
		case TEXTOID:
		case VARCHAROID:
			return from_text;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return from_time;
		case JSONBOID:
			return from_jsonb;
		default:
			return is_string(type) ? from_other : from_any;
	}
}

static void
prepare_column(Column *column, int place, Form_pg_attribute attribute)
{
	column->place = place;
	column->name = NameStr(attribute->attname);
	column->length = strlen(column->name);
	column->type = getBaseType(attribute->atttypid);
	column->writer = find_writer(column->type);
	if (column->writer == from_any)
		prepare_to_jsonb(&column->function, attribute->atttypid);
	else
		prepare_output(&column->function, column->type);
}

/* The order of keys; of those with the same name, the last one is the first. */
static int
compare_columns(const void *a, const void *b)
{
	const Column *left = a;
	const Column *right = b;
	int			result;

	if (left->length != right->length)
		return left->length < right->length ? -1 : 1;
	result = memcmp(left->name, right->name, left->length);
	return result != 0 ? result : right->place - left->place;
}

static bool
same_name(const Column *left, const Column *right)
{
	return left->length == right->length &&
		memcmp(left->name, right->name, left->length) == 0;
}

/* Of columns with the same name only the last one can be told. */
static void
choose_columns(DbOptRowJsonb *rows, TupleDesc desc)
{
	int			kept = 0;

	rows->columns = palloc0(Max(desc->natts, 1) * sizeof(Column));
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped)
			prepare_column(&rows->columns[rows->count++], i,
						   TupleDescAttr(desc, i));
	qsort(rows->columns, rows->count, sizeof(Column), compare_columns);
	for (int i = 0; i < rows->count; i++)
		if (i == 0 || !same_name(&rows->columns[i], &rows->columns[kept - 1]))
			rows->columns[kept++] = rows->columns[i];
	rows->count = kept;
}

/* ---- rows ---------------------------------------------------------------- */

/*
 * The entry of a key or value that was just written.  Some hold the place
 * where it ends instead of its length.
 */
static JEntry
make_entry(int number, uint32 type, uint32 length, uint32 end)
{
	if (number % JB_OFFSET_STRIDE == 0)
		return type | JENTRY_HAS_OFF | end;
	return type | length;
}

static void
prepare_start(DbOptRowJsonb *rows)
{
	StringInfoData names;
	Size		entries = 2 * rows->count * sizeof(JEntry);
	Jsonb	   *start;

	initStringInfo(&names);
	start = palloc0(offsetof(Jsonb, root.children) + entries);
	start->root.header = rows->count | JB_FOBJECT;
	for (int i = 0; i < rows->count; i++)
	{
		Column	   *column = &rows->columns[i];

		appendBinaryStringInfo(&names, column->name, column->length);
		start->root.children[i] = make_entry(i, JENTRY_ISSTRING,
											 column->length, names.len);
	}
	rows->keys_length = names.len;
	rows->length = offsetof(Jsonb, root.children) + entries + names.len;
	rows->start = palloc(rows->length);
	memcpy(rows->start, start, rows->length - names.len);
	memcpy(rows->start + rows->length - names.len, names.data, names.len);
}

DbOptRowJsonb *
dbopt_row_jsonb_make(TupleDesc desc)
{
	DbOptRowJsonb *rows = palloc0(sizeof(DbOptRowJsonb));

	choose_columns(rows, CreateTupleDescCopy(desc));
	prepare_start(rows);
	return rows;
}

void
dbopt_row_jsonb_append(const DbOptRowJsonb *rows, const Datum *values,
					   const bool *nulls, StringInfo out)
{
	int			start = out->len;
	uint32		end = rows->keys_length;
	Jsonb	   *row;

	appendBinaryStringInfoNT(out, rows->start, rows->length);
	for (int i = 0; i < rows->count; i++)
	{
		const Column *column = &rows->columns[i];
		int			before = out->len;
		uint32		type = JENTRY_ISNULL;
		uint32		length;

		if (!nulls[column->place])
			type = column->writer(column, values[column->place], out);
		length = out->len - before;
		end += length;
		check_size(end);
		row = (Jsonb *) (out->data + start);
		row->root.children[rows->count + i] = make_entry(rows->count + i, type,
														 length, end);
	}
	row = (Jsonb *) (out->data + start);
	SET_VARSIZE(row, out->len - start);
	align(out);
}
