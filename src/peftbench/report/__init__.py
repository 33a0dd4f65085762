"""Reports for people and for other programs: tables, sentences, markdown, exports.

It imports claims, gate and records, and neither torch nor pytest.
"""
