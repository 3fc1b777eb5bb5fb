export GREETING='it'\''s $HOME
'
export NOMAD_TASK_NAME='web'
