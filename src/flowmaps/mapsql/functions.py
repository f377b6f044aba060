"""The functions that a map's SQL may call: those that only compute.

Left out on purpose: what reaches out (files, network, other databases), sleeps, locks, changes settings, reads the
catalogue or makes very long texts (`repeat`, `lpad`, `rpad`).
"""

from __future__ import annotations

from typing import Final

_MATHS = """
abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd degrees
div exp factorial floor gcd lcm ln log log10 min_scale mod numeric pi power pow radians random random_normal round
scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket greatest least erf erfc
"""
_TEXT = """
ascii bit_length btrim char_length character_length chr concat concat_ws convert_from convert_to decode encode format
initcap left length like ltrim lower md5 normalize octet_length overlay parse_ident position quote_ident quote_literal
quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
regexp_split_to_table regexp_substr replace reverse right rtrim sha224 sha256 sha384 sha512 split_part starts_with
string_to_array string_to_table strpos substr substring textcat to_ascii to_hex translate trim unistr upper
like_escape is_normalized unaccent similarity word_similarity levenshtein soundex metaphone dmetaphone
"""
_TIME = """
age clock_timestamp date date_bin date_part date_trunc extract isfinite justify_days justify_hours justify_interval
localtime localtimestamp make_date make_interval make_time make_timestamp make_timestamptz now overlaps
statement_timestamp timezone to_char to_date to_number to_timestamp transaction_timestamp timeofday date_add
date_subtract
"""
_JSON = """
array_to_json json_agg json_agg_strict json_array_elements json_array_elements_text json_array_length
json_build_array json_build_object json_each json_each_text json_extract_path json_extract_path_text json_object
json_object_agg json_object_keys json_populate_record json_populate_recordset json_strip_nulls json_to_record
json_to_recordset json_typeof jsonb_agg jsonb_agg_strict jsonb_array_elements jsonb_array_elements_text
jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists
jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_populate_record
jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
jsonb_typeof row_to_json to_json to_jsonb jsonb_exists jsonb_exists_any jsonb_exists_all
"""
_ARRAYS = """
array_agg array_append array_cat array_dims array_length array_lower array_ndims array_position array_positions
array_prepend array_remove array_replace array_to_string array_upper cardinality generate_subscripts trim_array unnest
array_sample array_shuffle
"""
_AGGREGATES = """
any_value avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every max min mode
percentile_cont percentile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy
regr_syy stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg
"""
_WINDOWS = """
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
"""
_OTHERS = """
coalesce nullif num_nonnulls num_nulls generate_series hashtext isempty lower_inc upper_inc lower_inf upper_inf
int4range int8range numrange tsrange tstzrange daterange range_merge multirange uuid_nil gen_random_uuid
to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery to_tsvector ts_rank ts_rank_cd ts_headline
point box circle lseg path polygon line area center diameter height width radius npoints
bool boolean int int2 int4 int8 float4 float8 bpchar varchar text interval timestamp timestamptz time timetz
"""
_POSTGIS = """
box2d box3d geometry geography geometrytype addbbox dropbbox find_srid geometry_hash postgis_addbbox postgis_dropbbox
postgis_hasbbox postgis_getbbox postgis_typmod_srid raster
"""

_GROUPS = (_MATHS, _TEXT, _TIME, _JSON, _ARRAYS, _AGGREGATES, _WINDOWS, _OTHERS, _POSTGIS)
ALLOWED: Final = frozenset(name for group in _GROUPS for name in group.split())
_ALLOWED_PREFIXES = ("st_", "h3_")
_DENIED = frozenset(
    (
        "st_fromgdalraster",
        "st_gdaldrivers",
        "st_asgdalraster",
        "st_estimatedextent",
        "st_estimated_extent",
        "st_findextent",
        "st_find_extent",
        "st_createoverview",
        "st_retile",
        "st_mapalgebra",
    )
)
"""Functions of PostGIS that open files, run SQL that is given as text, or change tables."""


def is_allowed(name: str) -> bool:
    """Tell whether a function may be called; *name* in lower case, without its schema."""
    return name in ALLOWED or (name.startswith(_ALLOWED_PREFIXES) and name not in _DENIED)
