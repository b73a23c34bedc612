# Completion of batch_infer in fish: batch_infer -completion fish | source
function __batch_infer_complete
    set -l current (commandline -ct)
    set -l words (commandline -opc)
    set -l prefix (string match -r -- '^-[^=]*=' "$current")
    set -l value (string replace -r -- '^-[^=]*=' '' "$current")
    for line in ($words[1] -complete fish $words[2..] "$current" 2>/dev/null)
        switch $line
            case :files
                printf '%s\n' "$prefix"(__fish_complete_path "$value")
            case :folders
                printf '%s\n' "$prefix"(__fish_complete_directories "$value")
            case '*'
                printf '%s\n' "$prefix$line"
        end
    end
end
complete -c batch_infer -f -a '(__batch_infer_complete)'
