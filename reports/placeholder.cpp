// replaced by the report writers
